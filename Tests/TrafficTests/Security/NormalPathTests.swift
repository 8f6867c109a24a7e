import Resilience
import Testing
import Traffic

@Suite struct NormalPathTests {
  private func shown(_ text: String) -> String {
    let path = NormalPath(text)
    return path.isAmbiguous ? "?" : String(decoding: path.octets, as: UTF8.self)
  }

  @Test func spellingsOfOnePathAreOne() {
    let admin = [
      "/admin/x", "//admin/x", "/admin//x", "/./admin/x", "/admin/./x", "/a/../admin/x", "/%61dmin/x",
      "/admin%2Dx/../admin/x",
      "/%2e/admin/x", "/a/%2E%2e/admin/x", "/a/.%2e/admin/x", "/admin/y/..//x",
    ]
    for text in admin { #expect(shown(text) == "/admin/x", "\(text)") }
    #expect(shown("/admin/") == "/admin/" && shown("/admin/.") == "/admin/" && shown("/admin/x/..") == "/admin/")
    #expect(shown("") == "/" && shown("/") == "/" && shown("/a/..") == "/" && shown("/.") == "/")
    #expect(shown("/a%20b") == "/a b" && shown("/%C3%A4") == "/ä" && shown("/a%3Fb") == "/a?b")
    #expect(shown("*") == "*" && shown("host:443") == "host:443")
    #expect(shown("/.well-known/...") == "/.well-known/...")
  }

  @Test func whatServersReadDifferentlyIsAmbiguous() {
    let doubtful = [
      "/a%2fb", "/a%2Fb", "/a%5cb", "/a\\b", "/a%00", "/a%0d%0a", "/a%7f", "/%", "/%2", "/%zz", "/%252e%252e/admin",
      "/%25%32%66",
      "/..", "/../admin", "/a/../../b", "/public/..;/admin", "/admin;x=1/y", "/a%3bb", "/%2e%2e/x",
    ]
    for text in doubtful { #expect(shown(text) == "?", "\(text)") }
  }

  @Test func segmentsWithoutEnd() {
    let path = NormalPath(String(repeating: "/a/./..", count: 9000) + "/x")
    #expect(path.octets.elementsEqual("/x".utf8) && !path.isAmbiguous)
  }

  /// Whatever comes in: the form is stable, has no dot or empty segment, and the quick test never calls a path normal that is not.
  @Test func theFormIsStable() {
    let pieces = ["/", "a", ".", "..", "%2e", "%2f", "%61", ";", "//", "b", "%25", "41", "%", "\\"]
    var random = SeededRandom(seed: 11)
    for _ in 0..<20_000 {
      let text =
        "/" + (0..<Int(random.next() % 9)).map { _ in pieces[Int(random.next() % UInt64(pieces.count))] }.joined()
      let path = NormalPath(text)
      let isQuick = Array(text.utf8).withUnsafeBytes { NormalPath.isNormal($0) }
      if isQuick { #expect(!path.isAmbiguous && path.octets.elementsEqual(text.utf8), "\(text)") }
      guard !path.isAmbiguous else { continue }
      let again = NormalPath(path.octets)
      if !path.octets.contains(0x25) { #expect(again.octets == path.octets && !again.isAmbiguous, "\(text)") }
      let segments = path.octets.dropFirst().split(separator: 0x2F, omittingEmptySubsequences: false).dropLast()
      for segment in segments {
        #expect(!segment.isEmpty && !segment.elementsEqual(".".utf8) && !segment.elementsEqual("..".utf8), "\(text)")
      }
    }
  }
}
