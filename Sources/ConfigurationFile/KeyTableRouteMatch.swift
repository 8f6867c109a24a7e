extension KeyTable {
  private static let matchedValue = Shape.leafOr(
    .text,
    .record([
      .key("exact", .text, nil, "This value, as the short form has it."),
      .key("prefix", .text, nil, "A value that begins so."),
      .key("suffix", .text, nil, "A value that ends so."),
      .key("contains", .text, nil, "A value that has this in it."),
      .key("regex", .text, nil, "A value that this expression (PCRE2) matches as a whole."),
      .key("present", .boolean, nil, "`true`: any value; `false`: it is absent."),
      .key("not", .boolean, "false", "`true`: not so; what is absent is not."),
    ]))

  static let routeMatch: [Key] = [
    .key("host", .text, nil, "`api.example.com` or `*.example.com`."),
    .key("path", .urlPath, nil, "`/exact` or `/prefix/*`."),
    .key(
      "regex", .text, nil, "In place of `path`: an expression (PCRE2) that matches the whole path, without the query."),
    .key("method", .oneOrList(.leaf(.text)), nil, "One or more methods."),
    .key(
      "headers", .map(matchedValue), nil,
      "Fields with these values: text, or a map of one kind. One of several is enough."),
    .key("query", .map(matchedValue), nil, "Parameters of the query with these values, decoded, as of `headers`."),
    .key("fraction", .fraction, nil, "Part of the requests that meet the rest, by a draw for each: `0.1` or `10%`."),
  ]
}
