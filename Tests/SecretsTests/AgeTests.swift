import Testing
import Vocabulary

@testable import Secrets

struct AgeTests {
  @Test func sealedFilesOpenWithTheirIdentityOnly() throws {
    let mine = AgeIdentity.generate()
    let other = AgeIdentity.generate()
    let recipient = try #require(mine.recipient)
    for size in [0, 1, 65535, 65536, 65537, 200_000] {
      let plaintext = (0..<size).map { UInt8(truncatingIfNeeded: $0 &* 31) }
      for armored in [false, true] {
        let file = try AgeFile.seal(plaintext, to: [recipient], armored: armored)
        #expect(try AgeFile.open(file, [other, mine]) == plaintext)
        #expect(throws: AgeError.noMatch) { try AgeFile.open(file, [other]) }
      }
    }
  }

  @Test func everyTruncationIsAnError() throws {
    let mine = AgeIdentity.generate()
    let file = try AgeFile.seal(Array("hello".utf8), to: [try #require(mine.recipient)])
    for length in 0..<file.count {
      #expect(throws: AgeError.self) { try AgeFile.open(Array(file[..<length]), [mine]) }
    }
  }

  @Test func everyChangedByteIsAnError() throws {
    let mine = AgeIdentity.generate()
    let file = try AgeFile.seal(Array("hello".utf8), to: [try #require(mine.recipient)])
    for index in file.indices {
      var changed = file
      changed[index] ^= 1
      #expect(throws: AgeError.self) { try AgeFile.open(changed, [mine]) }
    }
  }

  @Test func keysReadBackFromTheirText() throws {
    let identity = AgeIdentity.generate()
    let again = try AgeIdentity(identity.text)
    #expect(again.text == identity.text)
    let recipient = try #require(identity.recipient)
    #expect(try AgeRecipient(recipient.text) == recipient)
    #expect(again.recipient == recipient)
    #expect(throws: AgeError.self) { try AgeRecipient(recipient.text.dropLast() + "b") }
    #expect(throws: AgeError.self) { try AgeIdentity(identity.text.lowercased()) }
  }

  @Test func identityFilesSkipCommentsAndNameTheLineOfAnError() throws {
    let identity = AgeIdentity.generate()
    let file = "# created: now\n# public key: age1\n\n\(identity.text)\n"
    #expect(try AgeIdentity.list(Array(file.utf8), name: "key.txt").map(\.text) == [identity.text])
    let bad = "# x\nAGE-SECRET-KEY-1NONSENSE\n"
    let error = #expect(throws: AgeError.self) { try AgeIdentity.list(Array(bad.utf8), name: "key.txt") }
    let text = error.map { "\($0)" } ?? ""
    #expect(text.contains("key.txt, line 2"))
    #expect(!text.contains("NONSENSE"))
    #expect(throws: AgeError.self) { try AgeIdentity.list([], name: "key.txt") }
  }

  @Test func base64HasOneSpelling() {
    #expect(Base64Text.decode(Array("TQ".utf8)) == [0x4D])
    #expect(Base64Text.decode(Array("TR".utf8)) == nil)
    #expect(Base64Text.decode(Array("TQ==".utf8)) == nil)
    #expect(Base64Text.decode(Array("TQ==".utf8), padded: true) == [0x4D])
    #expect(Base64Text.decode(Array("TQ".utf8), padded: true) == nil)
    #expect(Base64Text.decode(Array("T".utf8)) == nil)
  }
}
