@testable import Traffic

extension RouteTable {
  func match(_ asked: AskedRequest, _ scratch: RouteScratch = RouteScratch(seed: 1)) -> Int? {
    asked.with { match($0, scratch, field: $1) }
  }
}

/// A request to `shop.test`; fields of one name may be several.
func asked(
  _ target: String = "/", _ fields: [(String, String)] = [], host: String = "shop.test", method: String = "GET"
) -> AskedRequest {
  AskedRequest(target, method: method, authority: host, fields.map { AskedRequest.Field($0.0, $0.1) })
}

/// A route to the cluster `c`.
func route(_ edit: (inout RouteConfiguration.Match) -> Void) -> RouteConfiguration {
  var route = RouteConfiguration(action: .cluster("c"))
  edit(&route.match)
  return route
}
