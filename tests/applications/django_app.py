"""A Django project in one file, as WSGI and as ASGI."""

from __future__ import annotations

from django.conf import settings
from django.core.asgi import get_asgi_application
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, JsonResponse
from django.urls import path

__all__ = ["asgi", "wsgi"]


def show(request: HttpRequest, number: int) -> JsonResponse:
    return JsonResponse(
        {
            "number": number,
            "secure": request.is_secure(),
            "url": request.build_absolute_uri(),
            "size": len(request.body),
        }
    )


urlpatterns = [path("show/<int:number>", show)]

settings.configure(
    ROOT_URLCONF=__name__,
    ALLOWED_HOSTS=["*"],
    SECRET_KEY="of a test",
    DATA_UPLOAD_MAX_MEMORY_SIZE=None,
)
wsgi = get_wsgi_application()
asgi = get_asgi_application()
