import Traffic

extension KeyTable {
  /// `limits` of a route; a listener's has more.
  static let rate = Key.key(
    "rate",
    .oneOrList(
      strict([
        .key(
          "requests", .integer(1...1_000_000_000), nil, "Requests in each `per`; connections on TCP listeners.",
          required: true),
        .key("per", .interval, "1s", "The time that `requests` are counted in."),
        .key(
          "burst", .integer(1...1_000_000_000), nil,
          "Requests at once after a pause; as many as `requests` when absent."),
        .key(
          "by",
          .leafOr(
            .choice(["source", "path"]),
            .record([.key("header", .headerName, nil, "The field whose values are told apart.", required: true)])), nil,
          "A bucket for each client address, path, or value of a field (`{ header: NAME }`); one for all when absent."),
      ])), nil, "Token buckets; above one of them the answer is 429."
  ).strict

  static let authorize = Key.key(
    "authorize",
    strict([
      .key(
        "rbac",
        strict([
          .key("allow", .list(strict(rule)), nil, "When it is there, what none of these rules matches is denied."),
          .key("deny", .list(strict(rule)), nil, "What one of these rules matches is denied, whatever `allow` says."),
        ]), nil, "Rules."),
      .key("jwt", strict(jwt), nil, "Signed tokens."),
      .key("external", strict(external), nil, "A service that is asked about each request."),
    ]), nil, "Who may do what; all that is written must allow."
  ).strict

  /// A map in which a key without a value is an error, or as good as an empty list.
  private static func strict(_ keys: [Key]) -> Shape { .record(keys.map(\.strict)) }

  private static let rule: [Key] = [
    .key(
      "principals", .oneOrList(.leaf(.text)), nil,
      "Names of the client's certificate: `spiffe://domain/ns/*/sa/*`, `dns:name`, `dns:*.suffix`, `*`."),
    .key(
      "sources", .oneOrList(.leaf(.text)), nil,
      "Client addresses: `10.0.0.0/8`, `::1`; never those of `X-Forwarded-For`."),
    .key("paths", .oneOrList(.leaf(.urlPath)), nil, "`/exact` or `/prefix/*`, in normal form."),
    .key("methods", .oneOrList(.leaf(.text)), nil, "Methods."),
    .key("headers", .map(.leaf(.text)), nil, "Fields with exactly these values; `*` is any."),
    .key("jwt", .map(.oneOrList(.leaf(.text))), nil, "Claims with one of these values; `a.b` leads into objects."),
  ]

  private static let jwt: [Key] = [
    .key("issuer", .text, nil, "What `iss` must be.", required: true),
    .key("audiences", .oneOrList(.leaf(.text)), nil, "One of them must be in `aud`; not looked at when absent."),
    .key(
      "jwks",
      strict([
        .key("file", .path, nil, "A JSON Web Key Set, watched."),
        .key("url", .url, nil, "Where it is fetched."),
        Key.key("refresh", .interval, "5m", "Time between two fetches.").only(with: "url"),
        .key("ca", .path, nil, "A PEM bundle: who signs the certificate of `url`; the system's when absent."),
      ]), nil, "The keys that sign.", required: true),
    .key(
      "from",
      .oneOrList(
        .record([
          .key("header", .headerName, nil, "In this field, alone or behind `Bearer`."),
          .key("query", .text, nil, "In this parameter of the query."),
          .key("cookie", .text, nil, "In this cookie."),
        ])), "[{header: Authorization}]", "Where tokens stand; the first place that holds something counts."),
    .key("forward", .boolean, "false", "The field that held the token goes on to the upstream."),
    .key(
      "claims_to_headers", .map(.leaf(.headerName)), nil,
      "Claims that go to the upstream as fields; a client's own are removed."),
    .key("required", .boolean, "true", "`false` lets requests without a token pass; one that is not good never does."),
    .key("leeway", .duration, "60s", "Clocks may differ by this much."),
    .key(
      "algorithms", .oneOrList(.leaf(.choice(JWTAlgorithm.allCases.map(\.rawValue)))),
      "[\(JWTAlgorithm.allCases.map(\.rawValue).joined(separator: ", "))]", "Algorithms that are taken."),
  ]

  private static let external: [Key] = [
    .key("url", .url, nil, "`http://host:port` or `https://host`.", required: true),
    .key("ca", .path, nil, "A PEM bundle: who signs its certificate; the system's when absent."),
    .key("path_prefix", .urlPath, nil, "Stands before the request's own path."),
    .key("timeout", .interval, "200ms", "Longest wait for its answer."),
    .key("headers", .oneOrList(.leaf(.headerName)), "[Authorization]", "Request fields that it is told."),
    .key(
      "allowed_headers", .oneOrList(.leaf(.headerName)), nil,
      "Fields of its answer that go to the upstream; a client's own are removed."),
    .key("fail", .choice(["closed", "open"]), "closed", "What happens to requests that it gives no answer about."),
  ]

  static let fault = Key.key(
    "fault",
    strict([
      .key(
        "delay",
        .record([
          .key("duration", .interval, nil, "How long requests wait.", required: true),
          .key("fraction", .fraction, "1", "Which part of them."),
        ]), nil, "Requests that wait."),
      .key(
        "abort",
        .record([
          .key("status", .integer(200...599), nil, "What they are answered.", required: true),
          .key("fraction", .fraction, "1", "Which part of them."),
        ]), nil, "Requests that are answered in the upstream's place."),
    ]), nil, "Failures on purpose, for tests."
  ).strict
}
