import ArgumentParser
import Glibc
import SecretAgent
import Supervisor

struct SecretsCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "secrets", abstract: "Make and change the age-encrypted store of secrets; show how secrets do.",
    subcommands: [
      SecretsInit.self, SecretsEdit.self, SecretsSet.self, SecretsGet.self, SecretsList.self, SecretsRotateKey.self,
      SecretsStatusCommand.self,
    ])
}

/// The store and the identity that opens it.
struct AgeStoreOptions: ParsableArguments {
  @Option(name: .long, help: "The encrypted store.")
  var file = "secrets.age"

  @Option(name: .long, help: "The identity file, as age-keygen makes it.")
  var identity = "identity.txt"

  /// `NAME` or `NAME.FIELD`; the field is `value` when it is left out.
  static func split(_ name: String) -> (name: String, field: String) {
    guard let dot = name.firstIndex(of: ".") else { return (name, "value") }
    return (String(name[..<dot]), String(name[name.index(after: dot)...]))
  }
}

struct SecretsInit: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "init", abstract: "Make an identity (0600, if there is none) and an empty store.")
  @OptionGroup var store: AgeStoreOptions

  func run() throws {
    print("public key: \(try AgeStoreEditor.initialize(file: store.file, identity: store.identity))")
  }
}

struct SecretsSet: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "set", abstract: "Set NAME or NAME.FIELD to what standard input holds.")
  @OptionGroup var store: AgeStoreOptions
  @Argument(help: "NAME or NAME.FIELD.") var name: String

  func run() throws {
    if isatty(STDIN_FILENO) == 1 { StandardError.write("value of \(name), then Ctrl-D:") }
    var bytes: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 4096)
    while bytes.count <= 1 << 20 {
      let count = read(STDIN_FILENO, &buffer, buffer.count)
      if count <= 0 { break }
      bytes += buffer[..<count]
    }
    if bytes.last == 10 { bytes.removeLast() }
    guard bytes.count <= 1 << 20, let value = String(validating: bytes, as: UTF8.self) else {
      throw ValidationError(
        "the value of \(name) must be UTF-8 text of at most 1 MiB; encode it, for example with base64")
    }
    let (secret, field) = AgeStoreOptions.split(name)
    try AgeStoreEditor.set(secret, field, value, file: store.file, identity: store.identity)
  }
}

struct SecretsGet: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "get", abstract: "Print the value of NAME or NAME.FIELD.")
  @OptionGroup var store: AgeStoreOptions
  @Argument(help: "NAME or NAME.FIELD.") var name: String

  func run() throws {
    let (secret, field) = AgeStoreOptions.split(name)
    print(try AgeStoreEditor.get(secret, field, file: store.file, identity: store.identity))
  }
}

struct SecretsList: ParsableCommand {
  static let configuration = CommandConfiguration(commandName: "ls", abstract: "List names and fields, never values.")
  @OptionGroup var store: AgeStoreOptions

  func run() throws {
    for secret in try AgeStoreEditor.list(file: store.file, identity: store.identity) {
      print("\(secret.name): \(secret.fields.joined(separator: ", "))")
    }
  }
}
