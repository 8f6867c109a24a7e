@testable import Traffic

/// A request as the table sees it.
struct Asked {
  var host = "shop.test"
  var path = "/"
  var query = ""
  var method = "GET"
  /// Several of one name are several fields.
  var fields: [(String, String)] = []

  init(_ target: String = "/", _ fields: [(String, String)] = [], host: String = "shop.test", method: String = "GET") {
    let parts = target.split(separator: "?", maxSplits: 1, omittingEmptySubsequences: false)
    path = String(parts[0])
    query = parts.count > 1 ? String(parts[1]) : ""
    self.host = host
    self.method = method
    self.fields = fields
  }

  /// Calls `body` with the request as the table takes it.
  func with<Result>(_ body: (RouteQuery, RouteTable.Fields) -> Result) -> Result {
    let names = fields.map { Array($0.0.lowercased().utf8) }
    let values = fields.map { Array($0.1.utf8) }
    let joined = values.flatMap { $0 }
    let starts = values.indices.map { index in values[..<index].reduce(0) { $0 + $1.count } }
    return joined.withUnsafeBytes { all in
      Array(host.utf8).withUnsafeBytes { host in
        Array(path.utf8).withUnsafeBytes { path in
          Array(query.utf8).withUnsafeBytes { query in
            Array(method.utf8).withUnsafeBytes { method in
              body(RouteQuery(host: host, path: path, query: query, method: method)) { name, from in
                guard let found = names.indices.first(where: { $0 >= from && name.elementsEqual(names[$0]) }) else {
                  return nil
                }
                let value = all[starts[found]..<starts[found] + values[found].count]
                return RouteField(value: UnsafeRawBufferPointer(rebasing: value), next: found + 1)
              }
            }
          }
        }
      }
    }
  }
}

extension RouteTable {
  func match(_ asked: Asked, _ scratch: RouteScratch = RouteScratch(seed: 1)) -> Int? {
    asked.with { match($0, scratch, field: $1) }
  }
}

/// A route to the cluster `c`.
func route(_ edit: (inout RouteConfiguration.Match) -> Void) -> RouteConfiguration {
  var route = RouteConfiguration(action: .cluster("c"))
  edit(&route.match)
  return route
}
