import Testing

@testable import Traffic

@Suite struct AccessFormatTests {
  @Test func compilesToFlatSegments() throws {
    let format = try AccessFormat("a %RESPONSE_CODE% 100%% \"%REQ(X-Id?:PATH):5%\" %RESP(Server)%")
    #expect(
      format.segments == [
        .literal(Array("a ".utf8)), .value(.simple(.responseCode), limit: AccessFormat.longest),
        .literal(Array(" 100% \"".utf8)), .value(.request(.field(Array("x-id".utf8)), or: .path), limit: 5),
        .literal(Array("\" ".utf8)), .value(.response(Array("server".utf8)), limit: AccessFormat.longest),
      ])
    #expect(format.responseFields == [Array("server".utf8)])
    #expect(!format.isNumber)
    #expect(try AccessFormat("%DURATION%").isNumber)
  }

  @Test func startTimeTakesAFormatWithPercentSigns() throws {
    let format = try AccessFormat("[%START_TIME(%Y/%m/%d %H)%]")
    #expect(format.segments[1] == .value(.startTime(Array("%Y/%m/%d %H".utf8) + [0]), limit: AccessFormat.longest))
    #expect(try AccessFormat("%START_TIME%").segments == [.value(.startTime(nil), limit: AccessFormat.longest)])
  }

  @Test(arguments: [
    ("%RESPONSE_CODES%", AccessFormat.Problem.unknown("RESPONSE_CODES")),
    ("%REQ%", .argumentMissing("REQ")), ("%RESP()%", .argumentMissing("RESP")),
    ("%DURATION(1)%", .argumentUnwanted("DURATION")), ("x %DURATION", .unfinished("%DURATION")),
    ("%REQ(X", .unfinished("%REQ(X")), ("50% of", .unfinished("% of")), ("%REQ(a b)%", .invalidName("a b")),
    ("%REQ(A?B?C)%", .invalidName("A?B?C")), ("%REQ(A):0%", .invalidLimit("0")),
    ("%REQ(A):99999%", .invalidLimit("99999")), ("%REQ(Authorization)%", .sensitive("Authorization")),
    ("%REQ(X-A?COOKIE)%", .sensitive("COOKIE")), ("%RESP(set-cookie)%", .sensitive("set-cookie")),
    ("%REQ(X-Mine)%", .sensitive("X-Mine")),
  ])
  func refuses(_ text: String, _ problem: AccessFormat.Problem) {
    #expect(throws: problem) { try AccessFormat(text, secret: ["x-mine"]) }
  }

  @Test func aFormNamesEachResponseFieldOnce() throws {
    var form = AccessForm()
    form.fields = [
      .init(name: "a", format: try AccessFormat("%RESP(Server)% %RESP(X-Cache)%")),
      .init(name: "b", format: try AccessFormat("%RESP(SERVER)%")),
    ]
    #expect(form.responseFields == [Array("server".utf8), Array("x-cache".utf8)])
  }
}
