import ArgumentParser
import Glibc
import SecretAgent
import Supervisor

struct SecretsEdit: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "edit", abstract: "Open the decrypted store in $VISUAL or $EDITOR and encrypt what it leaves.",
    discussion:
      "The plaintext lies in memory (/dev/shm, /run) while it is edited, mode 0600, and is removed afterwards. A text "
      + "that cannot be read as a store is not stored.")
  @OptionGroup var store: AgeStoreOptions

  func run() throws {
    let environment = ProcessFacts.environment
    let editor = [environment["VISUAL"], environment["EDITOR"]].compactMap(\.self).first { !$0.isEmpty } ?? "vi"
    let outcome = try AgeStoreEditor.edit(
      file: store.file, identity: store.identity, editor: editor,
      warn: { StandardError.write("outrider: warning: \($0)") }, again: Self.ask)
    print(outcome == .saved ? "\(store.file) is saved" : "\(store.file) is unchanged")
  }

  /// Only somebody at a terminal can edit once more.
  private static func ask(_ problem: String) -> Bool {
    guard isatty(STDIN_FILENO) == 1 else { return false }
    StandardError.write("\(problem)\nEdit once more? [Y/n]")
    guard let answer = readLine() else { return false }
    return !answer.lowercased().hasPrefix("n")
  }
}

struct SecretsRotateKey: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "rotate-key", abstract: "Encrypt the store to a new identity and drop the old one.",
    discussion:
      "The identity file holds both until the store was written and opened with the new one; further recipients "
      + "(lines `# recipient: age1…`) stay.")
  @OptionGroup var store: AgeStoreOptions

  func run() throws {
    print("public key: \(try AgeStoreEditor.rotateKey(file: store.file, identity: store.identity))")
  }
}
