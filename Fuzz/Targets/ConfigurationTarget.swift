import ConfigurationFile

/// A configuration file: it is loaded, or refused with a place; what is loaded can be explained and loads again.
enum ConfigurationTarget {
  static func check(_ input: UnsafeRawBufferPointer) -> String? {
    guard input.count < 1 << 16, let image = image(of: Array(input)) else { return nil }
    let how = ConfigurationInput(path: "/c/outrider.yaml", state: "/state", workingDirectory: "/c")
    do throws(ConfigurationProblems) {
      let loaded = try ConfigurationLoader.load(how, from: image)
      if loaded.explain(json: true).isEmpty { return "loaded, and nothing to explain" }
      do throws(ConfigurationProblems) { _ = try ConfigurationLoader.load(how, from: loaded.image) } catch {
        return "what was loaded does not load again: \(error.rendered)"
      }
    } catch {
      if error.count < 1 || !error.rendered.contains("error: ") { return "refused, and not why: \(error.rendered)" }
    }
    return nil
  }

  /// No file is read from disk.
  private static func image(of file: [UInt8]) -> ConfigurationImage? {
    var bytes: [UInt8] = []
    for part in [Array("/c/outrider.yaml".utf8), file] {
      for shift in stride(from: 0, to: 32, by: 8) { bytes.append(UInt8(truncatingIfNeeded: part.count >> shift)) }
      bytes += part
    }
    return ConfigurationImage(bytes)
  }
}
