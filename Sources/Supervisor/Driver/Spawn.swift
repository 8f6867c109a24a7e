import CLinux
import Glibc

/// Starts processes in their own process group, with default signal handling.
enum Spawn {
  struct Failure: Error {
    let stage: Int32
    let error: CInt
  }

  /// With `takesTerminal` the terminal on descriptor 0 is its group's. Descriptor i of the process is a copy of `descriptors[i]`, -1 leaves it as it is.
  static func start(
    file: String, arguments: [String], environment: [String]?, directory: String? = nil, user: String? = nil,
    group: String? = nil, descriptors: [CInt], takesTerminal: Bool = false
  ) throws(Failure) -> Int32 {
    var pid: pid_t = 0
    var stage: CInt = 0
    var words: [UnsafeMutablePointer<CChar>?] = arguments.map { strdup($0) } + [nil]
    var variables: [UnsafeMutablePointer<CChar>?] = (environment ?? []).map { strdup($0) } + [nil]
    let texts = [
      strdup(file), directory.map { strdup($0) } ?? nil, user.map { strdup($0) } ?? nil,
      group.map { strdup($0) } ?? nil,
    ]
    defer {
      for text in words + texts { free(text) }
      for text in variables { erase(text) }
    }
    let error = words.withUnsafeMutableBufferPointer { words in
      variables.withUnsafeMutableBufferPointer { variables in
        descriptors.withUnsafeBufferPointer { descriptors in
          var request = outrider_spawn_request()
          request.file = UnsafePointer(texts[0])
          request.arguments = UnsafePointer(words.baseAddress)
          request.environment = environment == nil ? nil : UnsafePointer(variables.baseAddress)
          request.directory = UnsafePointer(texts[1])
          request.user = UnsafePointer(texts[2])
          request.group = UnsafePointer(texts[3])
          request.descriptors = descriptors.baseAddress
          request.descriptor_count = descriptors.count
          request.takes_terminal = takesTerminal ? 1 : 0
          return outrider_spawn(&request, &pid, &stage)
        }
      }
    }
    guard error == 0 else { throw Failure(stage: stage, error: error) }
    return pid
  }

  /// The environment may hold secrets.
  private static func erase(_ text: UnsafeMutablePointer<CChar>?) {
    guard let text else { return }
    explicit_bzero(text, strlen(text))
    free(text)
  }

  /// The exit code that shells use (127 not found, 126 found but not started) and a line with the way out.
  static func explain(_ failure: Failure, spec: AppSpec) -> (code: Int32, message: String) {
    let command = spec.arguments.first ?? ""
    let text = String(cString: strerror(failure.error))
    switch failure.stage {
    case Int32(OUTRIDER_SPAWN_EXEC.rawValue): return explainExec(failure.error, command, text)
    case Int32(OUTRIDER_SPAWN_DIRECTORY.rawValue):
      let directory = spec.workingDirectory ?? ""
      return (
        126, "cannot start \"\(command)\": working directory \"\(directory)\": \(text); correct app.working_directory"
      )
    case Int32(OUTRIDER_SPAWN_USER.rawValue):
      return (
        126, "cannot start \"\(command)\" as user \"\(spec.user ?? "")\": \(privilege(failure.error, text, "user"))"
      )
    case Int32(OUTRIDER_SPAWN_GROUP.rawValue):
      let group = spec.group ?? spec.user ?? ""
      return (
        126, "cannot start \"\(command)\" with the group of \"\(group)\": \(privilege(failure.error, text, "group"))"
      )
    default:
      return (
        126, "cannot start \"\(command)\": \(text); the limits of processes or open files may be reached (`ulimit -a`)"
      )
    }
  }

  private static func explainExec(_ error: CInt, _ command: String, _ text: String) -> (code: Int32, message: String) {
    let start = "cannot start \"\(command)\""
    switch error {
    case ENOENT where !command.utf8.contains(UInt8(ascii: "/")):
      return (127, "\(start): it is not in the PATH of the app's environment; give its full path in app.command")
    case ENOENT where access(command, F_OK) == 0:
      return (126, "\(start): the interpreter that its first line names does not exist; correct that line")
    case ENOENT: return (127, "\(start): there is no such file; correct app.command")
    case EACCES:
      return (126, "\(start): \(text); `chmod +x` it, or put its interpreter first in app.command")
    default: return (126, "\(start): \(text); check app.command")
    }
  }

  private static func privilege(_ error: CInt, _ text: String, _ kind: String) -> String {
    switch error {
    case EINVAL: "there is no such \(kind); correct app.\(kind)"
    case EPERM: "\(text); only root may change it: run outrider as root, or remove app.\(kind)"
    default: text
    }
  }
}
