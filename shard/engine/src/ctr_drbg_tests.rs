use super::*;

#[test]
fn the_self_test_passes() {
    assert_eq!(self_test(), Ok(()));
}

#[test]
fn lengths_are_checked() {
    assert_eq!(
        CtrDrbg::new(&[0; 47], b"").err(),
        Some(DrbgError::SeedLength)
    );
    assert_eq!(
        CtrDrbg::new(&[0; 48], &[0; 49]).err(),
        Some(DrbgError::InputLength)
    );
    let mut drbg = CtrDrbg::new(&[0; 48], b"").unwrap();
    assert_eq!(
        drbg.generate(&mut vec![0; MAX_REQUEST + 1], b""),
        Err(DrbgError::RequestLength)
    );
    assert_eq!(drbg.reseed(&[0; 48], &[0; 49]), Err(DrbgError::InputLength));
}

#[test]
fn one_seed_gives_one_stream_and_two_give_two() {
    let stream = |seed: u8| {
        let mut out = [0u8; 64];
        CtrDrbg::new(&[seed; 48], b"")
            .unwrap()
            .generate(&mut out, b"")
            .unwrap();
        out
    };
    assert_eq!(stream(1), stream(1));
    assert_ne!(stream(1), stream(2));
}

/// NIST CAVP, AES-256 without derivation function: instantiate, reseed, generate twice, compare the
/// second output (DRBGVS §6.1).
#[test]
fn nists_vectors_come_out() {
    const VECTORS: &str = include_str!("../../../tests/vectors/CTR_DRBG_AES256_no_df_pr_false.rsp");
    let bytes = |hex: &str| -> Vec<u8> {
        (0..hex.len() / 2)
            .map(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).unwrap())
            .collect()
    };
    let mut cases = 0;
    for case in VECTORS.split("COUNT = ").skip(1) {
        let all = |name: &str| -> Vec<Vec<u8>> {
            case.lines()
                .filter_map(|line| line.split_once(" = "))
                .filter(|(key, _)| *key == name)
                .map(|(_, value)| bytes(value.trim()))
                .collect()
        };
        let one = |name: &str| all(name).remove(0);
        let mut drbg = CtrDrbg::new(&one("EntropyInput"), &one("PersonalizationString")).unwrap();
        drbg.reseed(&one("EntropyInputReseed"), &one("AdditionalInputReseed"))
            .unwrap();
        let expected = one("ReturnedBits");
        let mut out = vec![0; expected.len()];
        for additional in all("AdditionalInput") {
            drbg.generate(&mut out, &additional).unwrap();
        }
        assert_eq!(out, expected);
        cases += 1;
    }
    assert_eq!(cases, 240);
}
