import RegularExpressions
import Traffic

/// What a client writes behind `?`, and the conditions of routes that look at it.
enum RoutingTarget {
  private static let name = Array("a b".utf8)
  private static let expression = try? RegularExpression("(x+)+y", .whole)
  private static let table: RouteTable = {
    var regex = RouteConfiguration(action: .cluster("c"))
    if let expression {
      regex.match.path = .regex(expression)
      regex.match.query = [NamedMatch("a b", ValueMatch(.regex(expression), isNegated: true))]
    }
    var present = RouteConfiguration(action: .cluster("c"))
    present.match.query = [NamedMatch("a b", ValueMatch(.present))]
    var absent = RouteConfiguration(action: .cluster("c"))
    absent.match.query = [NamedMatch("a b", ValueMatch(.present, isNegated: true))]
    return RouteTable([regex, present, absent])
  }()

  static func check(_ input: UnsafeRawBufferPointer) -> String? {
    var room: [UInt8] = []
    var values = 0
    var complaint: String?
    let isRead = QueryText.values(of: name, in: input, &room) { value in
      values += 1
      if value.count > input.count { complaint = "a value of \(value.count) octets in \(input.count)" }
      return true
    }
    if let complaint { return complaint }
    if !isRead, values > 0 { return "values of a query that was not read" }
    let scratch = RouteScratch(seed: 1)
    let method = UnsafeRawBufferPointer(rebasing: input[..<0])
    let chosen = table.match(RouteQuery(host: input, path: input, query: input, method: method), scratch) { _, _ in nil
    }
    guard isRead else { return chosen == nil ? nil : "route \(chosen ?? 0) of a query that was not read" }
    if chosen == 0 { return nil }
    return chosen == (values > 0 ? 1 : 2) ? nil : "\(values) values, and route \(chosen ?? -1)"
  }
}
