extension KeyTable {
  static let redirect: [Key] = [
    .key("to", .text, nil, "The location."),
    .key("scheme", .choice(["http", "https"]), nil, "In place of `to`: the request's own address with this scheme."),
    .key("host", .text, nil, "Its own address with this `name` or `name:port`."),
    .key("prefix", .urlPath, nil, "Its own address with this in place of the path or prefix that matched."),
    .key("code", .choice(["301", "302", "303", "307", "308"]), "302", "The status."),
  ]

  static let mirror: [Key] = [
    .key("to", .oneOrList(.leaf(.target)), nil, "As the listener's `to`.", required: true),
    .key("fraction", .fraction, "1", "Part of the requests, by a draw for each: `0.1` or `10%`."),
  ]

  static let rewrite: [Key] = [
    .key("prefix", .urlPath, nil, "Takes the place of the path or prefix that matched."),
    .key(
      "regex",
      .record([
        .key("pattern", .text, nil, "An expression (PCRE2), sought in the path.", required: true),
        .key(
          "substitution", .text, nil, "Takes the place of each match; `\\1` is the first group, `\\0` the match.",
          required: true),
      ]), nil, "Substitutes in the path; the query stays."),
    .key("host", .text, nil, "The host sent upstream."),
  ]
}
