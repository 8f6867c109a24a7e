import Glibc
import Logging
import Secrets
import Testing
import Vocabulary

@testable import SecretAgent

/// Files that switch together, by themselves.
@Suite struct FileSetTests {
  private let folder = Folder()

  private func delivery(_ names: [String], set: String? = "web") throws -> FileDelivery {
    try FileDelivery(
      names.map { name in
        var file = SecretFileConfiguration(path: name, content: SecretTemplate(parts: []))
        file.set = set
        return file
      }, { "\(folder.path)/\($0)" })
  }

  private func bytes(_ text: String) -> [UInt8] { Array(text.utf8) }

  private var generations: [String] {
    PlainFile.hiddenNames(folder.path).filter { $0.hasPrefix(".outrider-web.") }
  }

  @Test func oneRenameSwitchesAll() throws {
    let delivery = try delivery(["tls.crt", "tls.key"])
    #expect(delivery.units == [[0, 1]])
    #expect(try delivery.deliver([0, 1], [bytes("c1"), bytes("k1")]) == [0, 1])
    #expect(folder.read("tls.crt") == "c1" && folder.read("tls.key") == "k1")
    #expect(FileSet.link(of: folder.path + "/tls.key") == ".outrider-web/tls.key")
    let first = generations
    #expect(try delivery.deliver([0, 1], [bytes("c1"), bytes("k1")]) == [])
    #expect(generations == first && first.count == 1)
    #expect(try delivery.deliver([0, 1], [bytes("c2"), bytes("k1")]) == [0])
    #expect(folder.read("tls.crt") == "c2" && generations.count == 1 && generations != first)
    #expect(PlainFile.mode(folder.path + "/tls.key") == 0o600)
    delivery.remove()
    #expect(PlainFile.hiddenNames(folder.path).isEmpty)
    #expect(try PlainFile.list(folder.path).isEmpty)
  }

  @Test func whatCannotBeWrittenSwitchesNothing() throws {
    let good = try delivery(["a", "b"])
    #expect(try good.deliver([0, 1], [bytes("a1"), bytes("b1")]) == [0, 1])
    let bad = try delivery(["a", String(repeating: "b", count: 300)])
    #expect(throws: FileFailure.self) { try bad.deliver([0, 1], [bytes("a2"), bytes("b2")]) }
    #expect(folder.read("a") == "a1" && folder.read("b") == "b1" && generations.count == 1)
  }

  @Test func aFileThatLeavesTheSetIsAFileAgain() throws {
    let before = try delivery(["a", "b"])
    #expect(try before.deliver([0, 1], [bytes("a1"), bytes("b1")]) == [0, 1])
    let after = try delivery(["a"], set: nil)
    #expect(try after.deliver([0], [bytes("a1")]) == [0])
    for set in before.sets.subtracting(after.sets) { set.remove() }
    #expect(folder.read("a") == "a1" && FileSet.link(of: folder.path + "/a") == nil && generations.isEmpty)
  }

  @Test func aFileThatIsNoLongerInTheSetIsGoneFromItsDirectory() throws {
    #expect(try delivery(["a", "b"]).deliver([0, 1], [bytes("a1"), bytes("b1")]) == [0, 1])
    #expect(try delivery(["a"]).deliver([0], [bytes("a1")]) == [])
    #expect(try PlainFile.list(folder.path + "/.outrider-web") == ["a"])
  }

  @Test func aDeletedFileComesBackWithItsSet() throws {
    let delivery = try delivery(["a", "b"])
    #expect(try delivery.deliver([0, 1], [bytes("a1"), bytes("b1")]) == [0, 1])
    unlink(folder.path + "/a")
    delivery.restore(.init(label: "test")) { index in bytes(index == 0 ? "a1" : "b1") }
    #expect(folder.read("a") == "a1" && folder.read("b") == "b1")
  }

  /// What was put back is newer than what the app was told of: the delivery that is due still counts as a change.
  @Test func whatIsPutBackEarlyIsStillAChange() throws {
    let delivery = try delivery(["a"], set: nil)
    #expect(try delivery.deliver([0], [bytes("one")]) == [0])
    unlink(folder.path + "/a")
    delivery.restore(.init(label: "test")) { _ in bytes("two") }
    #expect(folder.read("a") == "two")
    #expect(try delivery.deliver([0], [bytes("two")]) == [0])
    #expect(try delivery.deliver([0], [bytes("two")]) == [])
  }
}
