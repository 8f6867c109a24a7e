package import Vocabulary

/// One step that leads from a manifest to another. `path` names a place from the document's root; the last component of
/// an addition to a list is the index that the new item gets (the list's length: at its end).
package enum Change: Equatable, Sendable {
  case add([String], JSONNode)
  case remove([String])
}

/// The one core of `outrider inject` and of the admission webhook: what is to be changed in a pod so that it has a
/// sidecar, or has none any more. Pure; nothing is changed that is as it should be.
package enum PodInjection {
  static let containerName = "outrider"
  static let volumePrefix = "outrider-"

  /// What a pod is without.
  package enum Refusal: Equatable, Sendable {
    /// Its annotation or label says `false`.
    case notWanted
    /// It shares the network of its node, where the sidecar's ports may be another's.
    case hostNetwork
  }

  /// Nil when the pod may have a sidecar.
  package static func refusal(of pod: JSONNode) -> Refusal? {
    let wishes = ["annotations", "labels"].compactMap { pod["metadata"]?[$0]?[Annotation.inject]?.text }
    if wishes.contains("false") { return .notWanted }
    return pod["spec"]?["hostNetwork"]?.bool == true && !wishes.contains("true") ? .hostNetwork : nil
  }

  /// The steps that give a pod (or a template of one) the sidecar. None when it has this very sidecar.
  package static func inject(
    into pod: JSONNode, at path: [String], _ settings: InjectionSettings
  ) throws(InjectionError) -> [Change] {
    guard case .object = pod["spec"] else { throw InjectionError("the pod has no `spec`; is this a whole manifest?") }
    let removal = try remove(from: pod, at: path)
    let bare = try apply(removal, to: pod, at: path)
    let additions = try add(to: bare, at: path, settings.adjusted(by: bare["metadata"]?["annotations"]))
    let result = try apply(additions, to: bare, at: path)
    return result.isSame(as: pod) ? [] : removal + additions
  }

  /// The pod after changes of the document in which it stands at `path`.
  private static func apply(
    _ changes: [Change], to pod: JSONNode, at path: [String]
  ) throws(InjectionError) -> JSONNode {
    var document = JSONNode.object([("pod", pod)])
    for change in changes { document = try document.applying(change.relative(to: path, under: "pod")) }
    return document["pod"] ?? .null
  }

  private static func add(
    to pod: JSONNode, at path: [String], _ settings: InjectionSettings
  ) throws(InjectionError) -> [Change] {
    let volumes = SidecarSpec.volumes(settings)
    let taken = pod["spec"]?["volumes"]?.items.compactMap { $0["name"]?.string } ?? []
    for case let name? in volumes.map({ $0["name"]?.string }) where taken.contains(name) {
      throw InjectionError("a volume named `\(name)` is there that injection did not make; rename it")
    }
    var changes = prepend(
      [SidecarSpec.container(settings)], to: path + ["spec", "initContainers"], in: pod, path.count)
    let mounts = SidecarSpec.sharedMounts(settings)
    for (index, container) in (pod["spec"]?["containers"]?.items ?? []).enumerated() {
      let place = path + ["spec", "containers", String(index), "volumeMounts"]
      let used = container["volumeMounts"]?.items.compactMap { $0["mountPath"]?.string } ?? []
      let fresh = mounts.filter { !used.contains($0["mountPath"]?.string ?? "") }
      changes += append(fresh, to: place, in: container["volumeMounts"])
    }
    changes += append(volumes, to: path + ["spec", "volumes"], in: pod["spec"]?["volumes"])
    return changes + annotate(pod, at: path)
  }

  private static func annotate(_ pod: JSONNode, at path: [String]) -> [Change] {
    let status = JSONNode.string("injected")
    guard case .object = pod["metadata"] else {
      return [.add(path + ["metadata"], .object([("annotations", .object([(Annotation.status, status)]))]))]
    }
    guard case .object = pod["metadata"]?["annotations"] else {
      return [.add(path + ["metadata", "annotations"], .object([(Annotation.status, status)]))]
    }
    return [.add(path + ["metadata", "annotations", Annotation.status], status)]
  }

  private static func append(_ items: [JSONNode], to path: [String], in list: JSONNode?) -> [Change] {
    guard !items.isEmpty else { return [] }
    guard case .array(let present) = list else { return [.add(path, .array(items))] }
    return items.enumerated().map { .add(path + [String(present.count + $0.offset)], $0.element) }
  }

  /// The sidecar is first, so that the other init containers have its network and secrets too.
  private static func prepend(_ items: [JSONNode], to path: [String], in pod: JSONNode, _ depth: Int) -> [Change] {
    guard case .array = pod["spec"]?["initContainers"] else { return [.add(path, .array(items))] }
    return items.reversed().map { .add(path + ["0"], $0) }
  }

  /// The steps that take away what injection made, and nothing else. None when it made nothing here.
  package static func remove(from pod: JSONNode, at path: [String]) throws(InjectionError) -> [Change] {
    guard pod["metadata"]?["annotations"]?[Annotation.status] != nil else {
      let lists = ["initContainers", "containers"].flatMap { pod["spec"]?[$0]?.items ?? [] }
      guard !lists.contains(where: { $0["name"]?.string == containerName }) else {
        throw InjectionError(
          "a container named `\(containerName)` is there that injection did not make (no annotation "
            + "\(Annotation.status)); rename or remove it")
      }
      return []
    }
    var changes: [Change] = []
    let spec = path + ["spec"]
    changes += drop(from: pod["spec"]?["initContainers"], at: spec + ["initContainers"]) {
      $0["name"]?.string == containerName
    }
    for kind in ["initContainers", "containers"] {
      var position = 0
      for container in pod["spec"]?[kind]?.items ?? [] where container["name"]?.string != containerName {
        changes += drop(
          from: container["volumeMounts"], at: spec + [kind, String(position), "volumeMounts"], where: isOurs)
        position += 1
      }
    }
    changes += drop(from: pod["spec"]?["volumes"], at: spec + ["volumes"], where: isOurs)
    let metadata = path + ["metadata"]
    if pod["metadata"]?["annotations"]?.members.count != 1 {
      return changes + [.remove(metadata + ["annotations", Annotation.status])]
    }
    if pod["metadata"]?.members.count != 1 { return changes + [.remove(metadata + ["annotations"])] }
    return changes + [.remove(metadata)]
  }

  private static func isOurs(_ item: JSONNode) -> Bool {
    SidecarSpec.volumeNames.contains(item["name"]?.string ?? "")
  }

  /// Removes the items that are meant, last first; the whole list when it would be empty.
  private static func drop(
    from list: JSONNode?, at path: [String], where isMeant: (JSONNode) -> Bool
  ) -> [Change] {
    let items = list?.items ?? []
    let meant = items.indices.filter { isMeant(items[$0]) }
    if meant.isEmpty { return [] }
    if meant.count == items.count { return [.remove(path)] }
    return meant.reversed().map { .remove(path + [String($0)]) }
  }
}
