package import Vocabulary

/// One question of the API server to a mutating webhook, and the answer (`admission.k8s.io/v1`).
package struct AdmissionReview: Sendable {
  package var uid: String
  package var kind: String
  package var operation: String
  package var namespace: String
  package var object: JSONNode

  /// Which pods the webhook is for, beside what the API server selects before it asks.
  package struct Selection: Sendable {
    /// Empty = every one that is not excluded.
    package var namespaces: Set<String> = []
    package var excludedNamespaces: Set<String> = ["kube-system", "kube-public", "kube-node-lease"]
    /// Labels that a pod must have; an empty value asks only for the label.
    package var labels: [(name: String, value: String)] = []
    package init() {}

    func takes(_ review: AdmissionReview) -> Bool {
      if excludedNamespaces.contains(review.namespace) { return false }
      if !namespaces.isEmpty, !namespaces.contains(review.namespace) { return false }
      return labels.allSatisfy { label in
        guard let value = review.object["metadata"]?["labels"]?[label.name]?.string else { return false }
        return label.value.isEmpty || label.value == value
      }
    }
  }

  /// Reads a request; the reason when it is none.
  package init(_ bytes: [UInt8]) throws(InjectionError) {
    let node: JSONNode
    do throws(JSONError) { node = try JSONParser.parse(bytes) } catch {
      throw InjectionError("the review is not JSON: \(error)")
    }
    guard node["kind"]?.string == "AdmissionReview", node["apiVersion"]?.string == "admission.k8s.io/v1" else {
      throw InjectionError("not an AdmissionReview of admission.k8s.io/v1; set admissionReviewVersions: [v1]")
    }
    guard let request = node["request"], let uid = request["uid"]?.string, (1...128).contains(uid.utf8.count) else {
      throw InjectionError("the review has no `request` with a `uid`")
    }
    self.uid = uid
    kind = request["kind"]?["kind"]?.string ?? ""
    operation = request["operation"]?.string ?? ""
    namespace = request["namespace"]?.string ?? ""
    object = request["object"] ?? .null
  }

  /// The answer: always allowed, with a patch where the pod gets a sidecar and a warning where it should have and cannot.
  package func answer(_ settings: InjectionSettings, _ selection: Selection) -> (json: String, isInjected: Bool) {
    guard kind == "Pod", operation == "CREATE", selection.takes(self), PodInjection.refusal(of: object) == nil,
      // A template that `outrider inject` has changed already.
      object["metadata"]?["annotations"]?[Annotation.status] == nil
    else {
      return (response([]), false)
    }
    do throws(InjectionError) {
      let changes = try PodInjection.inject(into: object, at: [], settings)
      guard !changes.isEmpty else { return (response([]), false) }
      let patch = JSONNode.array(changes.map(\.patch)).json
      let encoded = String(decoding: Base64Text.encode(Array(patch.utf8), padded: true), as: UTF8.self)
      return (
        response([("patchType", .string("JSONPatch")), ("patch", .string(encoded))]), true
      )
    } catch {
      return (response([("warnings", .array([.string("outrider: no sidecar: \(error)")]))]), false)
    }
  }

  private func response(_ members: [(key: String, value: JSONNode)]) -> String {
    JSONNode.object([
      ("apiVersion", .string("admission.k8s.io/v1")), ("kind", .string("AdmissionReview")),
      ("response", .object([("uid", .string(uid)), ("allowed", .bool(true))] + members)),
    ]).json
  }
}
