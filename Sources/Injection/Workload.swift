package import Vocabulary

/// Where the pods of a manifest are.
package enum Workload {
  /// Paths of pods and pod templates in a document, those of a `List` too; none in other kinds.
  package static func pods(in document: JSONNode) -> [[String]] {
    switch document["kind"]?.string {
    case "Pod": [[]]
    case "Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "ReplicationController", "Job":
      document.value(at: ["spec", "template"]) == nil ? [] : [["spec", "template"]]
    case "CronJob":
      document.value(at: ["spec", "jobTemplate", "spec", "template"]) == nil
        ? [] : [["spec", "jobTemplate", "spec", "template"]]
    case "PodTemplate": document["template"] == nil ? [] : [["template"]]
    case "List":
      (document["items"]?.items ?? []).enumerated().flatMap { index, item in
        pods(in: item).map { ["items", String(index)] + $0 }
      }
    default: []
    }
  }
}
