extension KeyTable {
  private static let certificate: [Key] = [
    .key("from", .secretName, nil, "`secrets.NAME`: certificate, key and chain from a secret, for example of `pki`."),
    .key("certificate", .path, nil, "A PEM file with the certificate and its chain."),
    .key("key", .path, nil, "A PEM file with the private key."),
  ]

  private static let match = Key.key(
    "match", .oneOrList(.leaf(.peerName)), nil,
    "Names of which the peer's certificate must have one: `spiffe://domain/path`, `spiffe://domain/*`, `dns:name`, `dns:*.suffix`."
  )

  static let listenerTLS: [Key] =
    certificate + [
      .key(
        "client_ca", .pathOrSecret, nil,
        "A PEM bundle, or `secrets.NAME`: who signs client certificates; a `pki` secret's own authority when absent."),
      .key(
        "client_certificate", .choice(["none", "optional", "required"]), nil,
        "Whether clients show a certificate; `required` when `client_ca` is written, else `none`."),
      match,
      .key("min_version", .choice(["1.2", "1.3"]), "\"1.2\"", "The lowest TLS version."),
      .key("permissive", .boolean, "false", "Takes plaintext on the same port too."),
      .key(
        "sni", .map(.record(certificate)), nil,
        "Other certificates by the name that the client asks for: `host` or `*.suffix`."),
    ]

  static let clusterTLS: [Key] =
    [
      .key("sni", .text, nil, "The name asked for and checked; the endpoint's own when absent."),
      .key("ca", .pathOrSecret, nil, "A PEM bundle, or `secrets.NAME`; the system's when absent."),
    ]
    + certificate.map { key in
      var key = key
      key.summary = key.name == "from" ? "`secrets.NAME`: the client certificate." : "Client: " + key.summary
      return key
    } + [
      Key.key(match.name, match.shape, nil, match.summary + " In place of the endpoint's name."),
      .key("verify", .boolean, "true", "Checks the server's certificate."),
    ]
}
