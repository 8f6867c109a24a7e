import RegularExpressions
import Testing

@testable import Traffic

@Suite struct RouteTableTests {
  @Test func firstMatchWins() {
    let table = RouteTable([
      route { $0.path = .exact("/exact") },
      route {
        $0.path = .prefix("/api/")
        $0.methods = ["POST", "PUT"]
      },
      route { $0.path = .prefix("/api/") },
      route { $0.host = "*.Example.com" },
      route {
        $0.host = "shop.test"
        $0.headers = [.init("X-Canary", "yes")]
      },
      route { $0.host = "shop.test" },
    ])
    #expect(table.match(asked("/exact", host: "h")) == 0)
    #expect(table.match(asked("/exact/", host: "h")) == nil)
    #expect(table.match(asked("/api/x", host: "h", method: "PUT")) == 1)
    #expect(table.match(asked("/api/x", host: "h")) == 2)
    #expect(table.match(asked("/api", host: "h")) == 2)
    #expect(table.match(asked("/apix", host: "h")) == nil)
    #expect(table.match(asked(host: "a.EXAMPLE.com")) == 3)
    #expect(table.match(asked(host: "example.com")) == nil)
    #expect(table.match(asked("/", [("X-Canary", "yes")], host: "SHOP.test")) == 4)
    #expect(table.match(asked("/", [("X-Canary", "no")])) == 5)
    #expect(RouteTable([route { _ in }]).match(asked("", host: "")) == 0)
    #expect(!table.hasLimits)
  }

  @Test func pathsByExpressionMatchAsAWhole() throws {
    let expression = try RegularExpression("/users/\\d+(/orders)?", .whole)
    let table = RouteTable([route { $0.path = .regex(expression) }])
    #expect(table.hasLimits)
    #expect(table.match(asked("/users/17")) == 0)
    #expect(table.match(asked("/users/17/orders?x=/users/1")) == 0)
    #expect(table.match(asked("/users/17/")) == nil)
    #expect(table.match(asked("/x/users/17")) == nil)
  }

  @Test func whatWouldCostTooMuchDoesNotMatch() throws {
    let costly = try RegularExpression("/(a+)+\\d", .whole)
    let scratch = RouteScratch(seed: 1)
    let table = RouteTable([
      route { $0.path = .regex(costly) },
      route { $0.headers = [.init("x-a", ValueMatch(.regex(costly), isNegated: true))] },
      route { $0.query = [.init("a", ValueMatch(.present, isNegated: true))] },
      route { _ in },
    ])
    let long = "/" + String(repeating: "a", count: 60)
    #expect(table.match(asked(long, [("X-A", long)]), scratch) == 2)
    #expect(scratch.takeExceeded() == 2)
    let manyParameters = String(repeating: "b&", count: 300)
    #expect(table.match(asked("/?" + manyParameters, [("X-A", long)]), scratch) == 3)
    #expect(scratch.takeExceeded() == 2)
    #expect(table.match(asked("/" + String(repeating: "b", count: 9000), [("X-A", "/1")]), scratch) == 1)
    #expect(scratch.takeExceeded() == 1)
  }

  /// Which of the values are taken.
  private func taken(_ match: ValueMatch, _ values: [String?]) -> [String?] {
    let byField = RouteTable([route { $0.headers = [.init("X-Value", match)] }])
    let byQuery = RouteTable([route { $0.query = [.init("value", match)] }])
    let fields = values.filter { value in
      byField.match(asked("/", value.map { [("x-value", $0)] } ?? [])) != nil
    }
    let parameters = values.filter { value in byQuery.match(asked(value.map { "/?value=\($0)" } ?? "/")) != nil }
    #expect(fields == parameters)
    return fields
  }

  @Test func valuesOfFieldsAndParameters() throws {
    let values = ["abc", "ab", "xabc", "", nil]
    #expect(taken(ValueMatch(.exact("abc")), values) == ["abc"])
    #expect(taken(ValueMatch(.exact("abc"), isNegated: true), values) == ["ab", "xabc", "", nil])
    #expect(taken(ValueMatch(.prefix("ab")), values) == ["abc", "ab"])
    #expect(taken(ValueMatch(.suffix("bc")), values) == ["abc", "xabc"])
    #expect(taken(ValueMatch(.suffix("bc"), isNegated: true), values) == ["ab", "", nil])
    #expect(taken(ValueMatch(.contains("ab")), values) == ["abc", "ab", "xabc"])
    #expect(taken(ValueMatch(.regex(try RegularExpression("x?.b", .whole))), values) == ["ab"])
    #expect(taken(ValueMatch(.present), values) == ["abc", "ab", "xabc", ""])
    #expect(taken(ValueMatch(.present, isNegated: true), values) == [nil])
  }

  @Test func oneOfSeveralValuesIsEnough() {
    let table = RouteTable([route { $0.headers = [.init("x-a", "2")] }])
    #expect(table.match(asked("/", [("X-A", "1"), ("X-B", "2")])) == nil)
    #expect(table.match(asked("/", [("X-A", "1"), ("X-B", "3"), ("X-A", "2")])) == 0)
    let negated = RouteTable([route { $0.headers = [.init("x-a", ValueMatch(.exact("2"), isNegated: true))] }])
    #expect(negated.match(asked("/", [("X-A", "1"), ("X-A", "2")])) == nil)
  }

  @Test func parametersAreDecoded() {
    func isTaken(_ query: String, _ name: String, _ value: String) -> Bool {
      RouteTable([route { $0.query = [.init(name, value)] }]).match(asked("/?\(query)")) != nil
    }
    #expect(isTaken("q=a%20b+c", "q", "a b c"))
    #expect(isTaken("x=1&n%61me=%c3%A4&y", "name", "ä"))
    #expect(isTaken("a=1=2", "a", "1=2"))
    #expect(isTaken("a=%zz%4", "a", "%zz%4"))
    #expect(isTaken("b&a&c", "a", ""))
    #expect(!isTaken("ab=1", "a", "1"))
    #expect(!isTaken("&&", "", ""))
    #expect(isTaken("a=1&a=2", "a", "2"))
  }

  @Test func fractionsAreDrawnLast() {
    let table = RouteTable([
      route {
        $0.path = .prefix("/a/")
        $0.fraction = 0.25
      },
      route { $0.fraction = 0 },
      route { _ in },
    ])
    let scratch = RouteScratch(seed: 7)
    var counts = [0, 0, 0]
    for _ in 0..<4000 { counts[table.match(asked("/a/x"), scratch) ?? 0] += 1 }
    #expect((930...1070).contains(counts[0]))
    #expect(counts[1] == 0)
    // The same draws: the seed decides, and requests that the path leaves out draw nothing for that route.
    let again = RouteScratch(seed: 7)
    var repeated = [0, 0, 0]
    for _ in 0..<4000 { repeated[table.match(asked("/a/x"), again) ?? 0] += 1 }
    #expect(repeated == counts)
  }
}
