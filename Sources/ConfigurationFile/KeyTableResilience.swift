/// What follows failures: retries, health checks, ejection.
extension KeyTable {
  static let defaultRetries = "{attempts: 1, on: [connect-failure, refused-stream, reset-before-request]}"
  static let retryConditions = [
    "connect-failure", "refused-stream", "reset", "reset-before-request", "gateway-error", "5xx", "retriable-4xx",
    "retriable-status-codes", "retriable-headers", "cancelled", "deadline-exceeded", "internal", "resource-exhausted",
    "unavailable",
  ]

  static let retriesSummary =
    "Tries after the first. A number also adds `gateway-error` and, for idempotent methods, `reset`; 0 switches all off."

  static let retries: [Key] = [
    .key("attempts", .integer(0...100), "1", "Tries after the first."),
    .key(
      "on", .list(.leaf(.choice(retryConditions))), nil, "Conditions besides the three safe ones that are always on."),
    .key(
      "status_codes", .oneOrList(.leaf(.integer(300...599))), nil,
      "Statuses that are retried as well; implies the condition `retriable-status-codes`."),
    .key(
      "response_headers", .map(.leaf(.text)), nil,
      "Fields that mark a response as one to retry, with their value or `true` for any; implies `retriable-headers`."),
    .key("per_try_timeout", .interval, nil, "Longest time of one try until its response head."),
    .key(
      "backoff",
      .record([
        .key("base", .duration, "25ms", "First wait before a try; each next doubles, with full jitter."),
        .key("cap", .duration, "250ms", "Longest wait before a try."),
      ]), "{base: 25ms, cap: 250ms}", "Waits between tries."),
    .key(
      "retry_after_max", .duration, "5s",
      "A response whose `Retry-After` asks for a longer wait is passed on instead of retried."),
    .key(
      "hedge",
      .record([
        .key("after", .interval, nil, "Time without a response head after which it begins.", required: true)
      ]), nil, "A second try of an idempotent request, at another endpoint, beside the first; the first head wins."),
  ]

  static let health: [Key] = [
    .key("http", .urlPath, nil, "Healthy when GET of this path answers one of `status`."),
    .key("tcp", .boolean, nil, "Healthy when the endpoint accepts a connection (in TLS, with its handshake)."),
    .key(
      "grpc", .text, nil, "Healthy when `grpc.health.v1` answers SERVING for this service; `true` = the whole server."),
    .key("interval", .interval, "10s", "Time between checks, a tenth more or less at random."),
    .key("timeout", .interval, "1s", "Longest time for one check, its connection included."),
    .key("unhealthy", .integer(1...1000), "3", "Failures in a row until unhealthy; before any success one is enough."),
    .key("healthy", .integer(1...1000), "2", "Successes in a row until healthy again."),
    .key(
      "panic", .integer(0...100), "50", "With fewer percent of endpoints available than this, all are used; 0 = never."),
    .key("status", .oneOrList(.leaf(.text)), "[200-299]", "Statuses that are well: `200` or `200-399`.").only(
      with: "http"),
    .key("host", .text, nil, "The Host field of checks; that of requests when absent."),
    .key("port", .integer(1...65535), nil, "Where to ask; the endpoint's own port when absent."),
  ]

  static let outliers: [Key] = [
    .key(
      "consecutive_5xx", .integer(1...1_000_000), "5", "Answers of 500 and above, or failures without one, in a row."),
    .key("interval", .interval, "10s", "Time between two looks at who may come back, and at success rates."),
    .key("ejection", .interval, "30s", "Length of the first ejection; the second lasts twice as long, and so on."),
    .key("max_ejection", .interval, "300s", "Longest ejection."),
    .key("max_percent", .integer(1...100), "10", "Part of the endpoints that may be out at once; one always may."),
  ]

  /// The keys of a cluster that say who of its endpoints is left out.
  static let availability: [Key] = [
    .key("health", .record(health), nil, "Asks each endpoint whether it is well; who is not gets no requests."),
    .key(
      "outliers", .leafOr(.boolean, .record(outliers)),
      "{consecutive_5xx: 5, interval: 10s, ejection: 30s, max_ejection: 300s, max_percent: 10}",
      "Leaves out endpoints for a while whose requests fail; never the only one. `false` switches it off."),
  ]
}
