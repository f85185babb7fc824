use super::*;

#[test]
fn the_process_generator_counts_and_never_repeats_between_threads() {
    let _ = process::seed(&[7; 48], b"test");
    assert_eq!(process::seed(&[7; 48], b"test"), Err(DrbgError::Seeded));
    let before = process::status();
    let threads: Vec<_> = (0..4)
        .map(|_| {
            std::thread::spawn(|| {
                (0..1000)
                    .map(|_| {
                        let mut out = [0u8; 16];
                        process::fill(&mut out).unwrap();
                        out
                    })
                    .collect::<Vec<_>>()
            })
        })
        .collect();
    let blocks: Vec<[u8; 16]> = threads
        .into_iter()
        .flat_map(|thread| thread.join().unwrap())
        .collect();
    let distinct: std::collections::HashSet<_> = blocks.iter().collect();
    assert_eq!(distinct.len(), blocks.len());
    process::reseed(&[9; 48], b"").unwrap();
    let after = process::status();
    assert!(after.requests >= before.requests + 4000);
    assert_eq!(after.reseeds, before.reseeds + 1);
}

#[test]
fn a_forked_child_does_not_repeat_its_parent() {
    let _ = process::seed(&[7; 48], b"test");
    let mut pipe = [0; 2];
    // SAFETY: a plain pipe and fork; the child only generates, writes and exits.
    unsafe {
        assert_eq!(libc::pipe(pipe.as_mut_ptr()), 0);
        let child = libc::fork();
        if child == 0 {
            let mut out = [0u8; 32];
            let ok = process::fill(&mut out).is_ok() && process::status().forks == 1;
            libc::write(pipe[1], out.as_ptr().cast(), 32);
            libc::_exit(i32::from(!ok));
        }
        let mut ours = [0u8; 32];
        process::fill(&mut ours).unwrap();
        let mut theirs = [0u8; 32];
        assert_eq!(libc::read(pipe[0], theirs.as_mut_ptr().cast(), 32), 32);
        let mut status = 0;
        libc::waitpid(child, &mut status, 0);
        assert_eq!(libc::WEXITSTATUS(status), 0);
        assert_ne!(ours, theirs);
    }
}

#[test]
fn once_zeroized_nothing_comes_out() {
    let _ = process::seed(&[7; 48], b"test");
    // SAFETY: the child of the fork, which leaves the other tests their generator, only calls the
    // generator and exits.
    unsafe {
        let child = libc::fork();
        if child == 0 {
            process::zeroize();
            let mut out = [0u8; 32];
            let closed = process::fill(&mut out) == Err(DrbgError::Zeroized)
                && process::reseed(&[8; 48], b"") == Err(DrbgError::Zeroized)
                && process::seed(&[8; 48], b"") == Err(DrbgError::Zeroized)
                && !process::status().seeded
                && out == [0; 32];
            libc::_exit(i32::from(!closed));
        }
        let mut status = 0;
        libc::waitpid(child, &mut status, 0);
        assert_eq!(libc::WEXITSTATUS(status), 0);
    }
    assert_eq!(process::fill(&mut [0; 32]), Ok(()));
}
