import Vocabulary

/// What is added to a pod. The pod's own annotations win over these.
package struct InjectionSettings: Sendable, Equatable {
  /// The sidecar's image.
  package var image: String
  /// The ConfigMap that holds `outrider.yaml`.
  package var configMap = "outrider"
  /// Where the app writes log files; nil = no volume for logs is shared.
  package var logs: String?

  package init(image: String) { self.image = image }

  /// With what the pod asks for.
  func adjusted(by annotations: JSONNode?) throws(InjectionError) -> InjectionSettings {
    var result = self
    if let image = annotations?[Annotation.image]?.string { result.image = image }
    if let name = annotations?[Annotation.configuration]?.string { result.configMap = name }
    if let path = annotations?[Annotation.logs]?.string { result.logs = path.isEmpty ? nil : path }
    guard !result.image.isEmpty, result.image.utf8.allSatisfy({ $0 > 0x20 && $0 < 0x7F }) else {
      throw InjectionError("`\(result.image)` is not an image; correct the annotation \(Annotation.image) or --image")
    }
    guard Self.isName(result.configMap) else {
      throw InjectionError(
        "`\(result.configMap)` is not the name of a ConfigMap; correct the annotation \(Annotation.configuration)")
    }
    if let logs = result.logs, !logs.hasPrefix("/") || logs.contains(":") {
      throw InjectionError("`\(logs)` is not an absolute path without `:`; correct the annotation \(Annotation.logs)")
    }
    return result
  }

  /// A DNS subdomain (RFC 1123), as names of objects are.
  private static func isName(_ text: String) -> Bool {
    (1...253).contains(text.utf8.count)
      && text.utf8.allSatisfy { (97...122).contains($0) || (48...57).contains($0) || $0 == 45 || $0 == 46 }
      && !text.hasPrefix("-") && !text.hasSuffix("-") && !text.hasPrefix(".") && !text.hasSuffix(".")
  }
}

/// The annotations of a pod that injection reads and writes.
package enum Annotation {
  /// `true` or `false`: whether this pod gets a sidecar. Also as a label, by which an API server can select.
  package static let inject = "outrider.dev/inject"
  package static let image = "outrider.dev/image"
  package static let configuration = "outrider.dev/config"
  package static let logs = "outrider.dev/logs"
  /// Written by injection: the sidecar and its volumes are ours.
  package static let status = "outrider.dev/status"
}

package struct InjectionError: Error, Equatable, CustomStringConvertible {
  package var description: String
  package init(_ description: String) { self.description = description }
}
