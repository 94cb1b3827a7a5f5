/// Makes aws-lc the process's TLS library, for every client and driver that asks rustls for the default one.
///
/// To be called first thing in `main`, and by tests that open TLS. Calling it again changes nothing.
pub fn install_tls() {
    // The error means that a provider is installed already: ours, since no other is compiled in.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}

#[cfg(test)]
mod tests {
    use super::install_tls;

    #[test]
    fn twice_is_once() {
        install_tls();
        install_tls();
        assert!(rustls::crypto::CryptoProvider::get_default().is_some());
    }
}
