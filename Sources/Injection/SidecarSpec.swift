import Vocabulary

/// The sidecar as Kubernetes sees it: an init container that stays (`restartPolicy: Always`), so that it is ready before
/// the app starts and ends after it, without a preStop hook.
enum SidecarSpec {
  static let state = "/var/lib/outrider"
  static let shared = "/run/outrider"
  static let volumeNames = ["outrider-config", "outrider-state", "outrider-run", "outrider-logs"]

  static func container(_ settings: InjectionSettings) -> JSONNode {
    let mounts =
      [
        mount("outrider-config", "/etc/outrider", readOnly: true), mount("outrider-state", state),
        mount("outrider-run", shared),
      ] + (settings.logs.map { [mount("outrider-logs", $0, readOnly: true)] } ?? [])
    return .object([
      ("name", .string(PodInjection.containerName)),
      ("image", .string(settings.image)),
      ("args", words(["run", "--config", "/etc/outrider/outrider.yaml", "--state", state])),
      ("restartPolicy", .string("Always")),
      ("startupProbe", probe([], period: 1, failures: 120)),
      ("readinessProbe", probe([], period: 5, failures: 2)),
      ("livenessProbe", probe(["--for", "live"], period: 10, failures: 3)),
      (
        "resources",
        .object([
          ("requests", .object([("cpu", .string("20m")), ("memory", .string("48Mi"))])),
          ("limits", .object([("memory", .string("192Mi"))])),
        ])
      ),
      (
        "securityContext",
        .object([
          ("runAsNonRoot", .bool(true)), ("runAsUser", .number("65532")), ("runAsGroup", .number("65532")),
          ("readOnlyRootFilesystem", .bool(true)), ("allowPrivilegeEscalation", .bool(false)),
          ("capabilities", .object([("drop", words(["ALL"]))])),
          ("seccompProfile", .object([("type", .string("RuntimeDefault"))])),
        ])
      ),
      ("volumeMounts", .array(mounts)),
    ])
  }

  /// What each container of the app sees: the secrets that the sidecar writes, and where it reads log files.
  static func sharedMounts(_ settings: InjectionSettings) -> [JSONNode] {
    [mount("outrider-run", shared)] + (settings.logs.map { [mount("outrider-logs", $0)] } ?? [])
  }

  static func volumes(_ settings: InjectionSettings) -> [JSONNode] {
    let configuration = JSONNode.object([("name", .string(settings.configMap))])
    return [
      .object([("name", .string("outrider-config")), ("configMap", configuration)]),
      .object([("name", .string("outrider-state")), ("emptyDir", .object([]))]),
      .object([
        ("name", .string("outrider-run")),
        ("emptyDir", .object([("medium", .string("Memory")), ("sizeLimit", .string("8Mi"))])),
      ]),
    ] + (settings.logs == nil ? [] : [.object([("name", .string("outrider-logs")), ("emptyDir", .object([]))])])
  }

  /// By the command that the image has anyway: the admin port is on the loopback address, where no kubelet asks.
  private static func probe(_ options: [String], period: Int, failures: Int) -> JSONNode {
    let command = ["/outrider", "wait", "--timeout", "1s", "--state", state] + options
    return .object([
      ("exec", .object([("command", words(command))])), ("periodSeconds", .number(String(period))),
      ("timeoutSeconds", .number("3")), ("failureThreshold", .number(String(failures))),
    ])
  }

  private static func mount(_ name: String, _ path: String, readOnly: Bool = false) -> JSONNode {
    .object(
      [("name", .string(name)), ("mountPath", .string(path))] + (readOnly ? [("readOnly", .bool(true))] : []))
  }

  private static func words(_ words: [String]) -> JSONNode { .array(words.map { .string($0) }) }
}
