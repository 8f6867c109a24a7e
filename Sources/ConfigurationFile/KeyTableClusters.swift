extension KeyTable {
  /// Where the endpoints of a cluster come from: one of these.
  static let discovery: [Key] = [
    .key(
      "endpoints", endpoints, nil,
      "Fixed endpoints: `host:port` or `unix:/path`, or maps with weight, locality and priority."),
    .key(
      "dns", .address, nil, "`name:port`; every address of the name is an endpoint, looked up as its answers expire."),
    .key("srv", .text, nil, "A name with SRV records: their priorities, weights, ports and targets make endpoints."),
    .key("file", .path, nil, "A YAML or JSON file that lists endpoints as `endpoints` does; read when it changes."),
  ]

  /// As a cluster's `endpoints` and a file of endpoints hold them.
  static let endpoints = Shape.list(.leafOr(.address, .record(endpoint)))

  private static let endpoint: [Key] = [
    .key("address", .address, nil, "`host:port` or `unix:/path`.", required: true),
    .key("weight", .integer(1...1000), "1", "Its share of requests."),
    .key("locality", .text, nil, "Where it is; the cluster's own `locality` comes first."),
    .key("priority", .integer(0...127), "0", "0 comes first; the next takes what too few available ones cannot."),
  ]

  /// What a file of endpoints may hold instead of the bare list.
  static let endpointFile: [Key] = [.key("endpoints", endpoints, nil, "The endpoints.", required: true)]

  static let balancing: [Key] = [
    .key(
      "balance", .choice(["least_request", "round_robin", "random", "peak_ewma", "ring_hash", "maglev"]),
      "least_request", "How an endpoint is chosen."),
    .key(
      "hash_on",
      .leafOr(
        .choice(["source", "path"]),
        .record([
          .key("header", .headerName, nil, "A header field."),
          .key("cookie", .text, nil, "A cookie."),
          .key("query", .text, nil, "A parameter of the query."),
        ])), nil,
      "The key of `ring_hash` and `maglev`; a request without it goes anywhere. `source`, the client's address, when absent."
    ),
    .key(
      "locality", .text, nil,
      "Where this sidecar is: endpoints with this `locality` come before others of their priority."),
    .key("slow_start", .duration, "0s", "Endpoints that join or come back take their share within this time."),
  ]

  static let resolvers = Key.key(
    "resolvers", .oneOrList(.leaf(.text)), nil,
    "DNS servers, `address` or `address:port`; those of the system when absent.")
}
