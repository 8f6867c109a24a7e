import Vocabulary

/// `outrider inject`: a file's text to its text.
package enum ManifestInjection {
  package struct Outcome: Sendable {
    package var text: String
    /// Names of workloads, with what was done: for people.
    package var notes: [String] = []
    package var changed = 0
  }

  package static func inject(_ text: String, _ settings: InjectionSettings) throws(InjectionError) -> Outcome {
    try rewrite(text) { pod, path throws(InjectionError) in
      switch PodInjection.refusal(of: pod) {
      case .notWanted: return ([], "is left alone: its annotation \(Annotation.inject) says false")
      case .hostNetwork:
        return ([], "is left alone: it uses its node's network; the annotation \(Annotation.inject): \"true\" insists")
      case nil: break
      }
      let changes = try PodInjection.inject(into: pod, at: path, settings)
      return (changes, changes.isEmpty ? "has its sidecar already" : "got the sidecar")
    }
  }

  package static func uninject(_ text: String) throws(InjectionError) -> Outcome {
    try rewrite(text) { pod, path throws(InjectionError) in
      let changes = try PodInjection.remove(from: pod, at: path)
      return (changes, changes.isEmpty ? "has no sidecar" : "lost the sidecar")
    }
  }

  private static func rewrite(
    _ text: String, _ decide: (JSONNode, [String]) throws(InjectionError) -> (changes: [Change], note: String)
  ) throws(InjectionError) -> Outcome {
    var manifest = try Manifest(text)
    var outcome = Outcome(text: text)
    for (number, document) in manifest.documents.enumerated() {
      for path in Workload.pods(in: document) {
        let name = Self.name(of: document, path)
        guard let pod = document.value(at: path) else { continue }
        do throws(InjectionError) {
          let (changes, note) = try decide(pod, path)
          for change in changes { manifest = try manifest.applying(change, to: number) }
          outcome.notes.append("\(name) \(note)")
          outcome.changed += changes.isEmpty ? 0 : 1
        } catch {
          throw InjectionError("\(name): \(error)")
        }
      }
    }
    outcome.text = manifest.string
    return outcome
  }

  private static func name(of document: JSONNode, _ path: [String]) -> String {
    let item = path.first == "items" ? document.value(at: path.prefix(2)) ?? document : document
    let kind = item["kind"]?.string ?? "?"
    return "\(kind)/\(item["metadata"]?["name"]?.string ?? item["metadata"]?["generateName"]?.string ?? "?")"
  }
}
