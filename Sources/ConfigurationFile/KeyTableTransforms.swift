extension KeyTable {
  static let levels = ["trace", "debug", "info", "warn", "error", "fatal"]

  private static let filter: [Key] = [
    .key("where", .text, nil, "A condition."),
    .key("below", .choice(levels), nil, "Records below this level; those without a level are none."),
    .key("level", .oneOrList(.leaf(.choice(levels))), nil, "Records of this level."),
    .key("field", .text, nil, "Records that have this field, or in which `regex` matches it."),
    .key("regex", .text, nil, "What `field` matches (PCRE2); without `field`, the message."),
  ]

  private static let limits: [Key] = [
    .key("records", .integer(1...1_000_000_000), nil, "Records that pass in `per`.", required: true),
    .key("per", .interval, "1s", "The time for so many."),
    .key("burst", .integer(1...1_000_000_000), nil, "Records that may pass at once; as many as `records` when absent."),
    .key("key", .text, nil, "A field: each of its values has its own allowance; else each source has one."),
    .key("max_keys", .integer(1...1_000_000), "10000", "Values told apart; further ones share one allowance."),
  ]

  private static let metric: [Key] = [
    .key("name", .text, nil, "The metric's name, for example `orders_total`.", required: true),
    .key("help", .text, "Records of the log.", "Its description."),
    .key("where", .text, nil, "A condition; without it every record counts."),
    .key("labels", .oneOrList(.leaf(.text)), nil, "Fields whose values become labels."),
    .key("histogram", .text, nil, "A field whose numbers go into a histogram; without it, records are counted."),
    .key("buckets", .list(.leaf(.text)), nil, "Upper bounds, ascending; 0.005 to 10 when absent."),
    .key("max_series", .integer(1...10_000), "100", "Combinations of labels; further ones are labelled `other`."),
  ]

  static let transform: [Key] = [
    .key("add", .map(.leaf(.text)), nil, "Fields to add."),
    .key("remove", .oneOrList(.leaf(.text)), nil, "Fields to remove."),
    .key("rename", .map(.leaf(.text)), nil, "Old names and the new ones; a name that is taken is not given again."),
    .key(
      "keep", .leafOr(.text, .record(filter)), nil, "A condition, or its parts: records to keep; others go."),
    .key("drop", .leafOr(.text, .record(filter)), nil, "A condition, or its parts: records to drop."),
    .key(
      "redact",
      .record([
        .key("secrets", .boolean, "true", "Hides values of known secrets."),
        .key(
          "patterns",
          .oneOrList(
            .leafOr(
              .choice(["email", "credit_card", "jwt", "aws_key", "ipv4", "ipv6", "bearer"]),
              .record([.key("regex", .text, nil, "What is hidden (PCRE2).", required: true)]))), nil,
          "What is hidden wherever it stands in a value."),
        .key("fields", .oneOrList(.leaf(.text)), nil, "Names of fields whose values are hidden, at any depth."),
      ]),
      nil,
      "What is hidden; secrets are, unless switched off here."),
    .key(
      "sample",
      .record([
        .key("rate", .fraction, nil, "The part of the records that is kept.", required: true),
        .key("key", .text, nil, "A field: records with the same value are kept or dropped together."),
        .key("seed", .integer(0...Int.max), "0", "Another seed keeps others."),
        .key("where", .text, nil, "A condition: other records are all kept."),
      ]), nil, "Keeps a part of the records."),
    .key(
      "dedupe",
      .record([
        .key("fields", .oneOrList(.leaf(.text)), nil, "What makes records the same; level and message when absent."),
        .key("window", .interval, "10s", "A record that passed so lately is not repeated."),
        .key("max_keys", .integer(1...1_000_000), "10000", "Records that are remembered."),
      ]), nil, "Drops records that repeat another; the next one tells `repeated`."),
    .key("rate_limit", .record(limits), nil, "Drops what comes too often."),
    .key("route", .map(.leaf(.text)), nil, "Sinks and conditions: a sink named here takes only what matches."),
    .key("metric", .record(metric), nil, "A metric that records feed."),
  ]

  static let logTests: [Key] = [
    .key("name", .text, nil, "What is tested.", required: true),
    .key("source", .text, "app", "The source that the lines come from."),
    .key(
      "input", .oneOrList(.leaf(.text)), nil, "A line, or several; the last one's record is looked at.", required: true),
    .key("dropped", .boolean, "false", "The record is dropped."),
    .key("expect", .map(.leaf(.text)), nil, "Fields and what they hold."),
    .key("absent", .oneOrList(.leaf(.text)), nil, "Fields that are not there."),
    .key("sinks", .oneOrList(.leaf(.text)), nil, "The sinks that take it, and no others."),
  ]
}
