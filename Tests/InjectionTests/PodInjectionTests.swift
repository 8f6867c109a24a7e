import Injection
import Testing
import Vocabulary

private let settings = InjectionSettings(image: "outrider:1")

private func parse(_ text: String) throws -> JSONNode { try JSONParser.parse(Array(text.utf8)) }

private func apply(_ changes: [Change], to node: JSONNode) throws -> JSONNode {
  try changes.reduce(node) { try $0.applying($1) }
}

@Suite struct PodInjectionTests {
  static let pod = """
    {"apiVersion":"v1","kind":"Pod","metadata":{"name":"a"},"spec":{"initContainers":[{"name":"setup"}],
    "containers":[{"name":"app"},{"name":"more","volumeMounts":[{"name":"x","mountPath":"/x"}]}],"volumes":[{"name":"x"}]}}
    """

  @Test func theSidecarComesFirstAndIsANativeOne() throws {
    let pod = try parse(Self.pod)
    let result = try apply(PodInjection.inject(into: pod, at: [], settings), to: pod)
    let first = try #require(result.value(at: ["spec", "initContainers", "0"]))
    #expect(first["name"]?.string == "outrider")
    #expect(first["restartPolicy"]?.string == "Always")
    #expect(first["image"]?.string == "outrider:1")
    #expect(first["lifecycle"] == nil)
    #expect(result.value(at: ["spec", "initContainers", "1", "name"])?.string == "setup")
    for index in ["0", "1"] {
      let mounts = result.value(at: ["spec", "containers", index, "volumeMounts"])?.items ?? []
      #expect(mounts.contains { $0["mountPath"]?.string == "/run/outrider" })
    }
    #expect(result.value(at: ["spec", "volumes"])?.items.count == 4)
  }

  @Test func aSecondTimeNothingChangesAndTakingOutGivesBackWhatWas() throws {
    let pod = try parse(Self.pod)
    let injected = try apply(PodInjection.inject(into: pod, at: [], settings), to: pod)
    #expect(try PodInjection.inject(into: injected, at: [], settings).isEmpty)
    let bare = try apply(PodInjection.remove(from: injected, at: []), to: injected)
    #expect(bare.isSame(as: pod))
    #expect(try PodInjection.remove(from: bare, at: []).isEmpty)
  }

  @Test func otherSettingsReplaceTheSidecar() throws {
    let pod = try parse(Self.pod)
    let injected = try apply(PodInjection.inject(into: pod, at: [], settings), to: pod)
    var other = InjectionSettings(image: "outrider:2")
    other.logs = "/var/log/app"
    let again = try apply(PodInjection.inject(into: injected, at: [], other), to: injected)
    let sidecars = again.value(at: ["spec", "initContainers"])?.items.filter { $0["name"]?.string == "outrider" } ?? []
    #expect(sidecars.map { $0["image"]?.string } == ["outrider:2"])
    #expect(again.value(at: ["spec", "volumes"])?.items.count == 5)
    #expect(try apply(PodInjection.remove(from: again, at: []), to: again).isSame(as: pod))
  }

  @Test func annotationsWin() throws {
    let pod = try parse(
      #"{"metadata":{"annotations":{"outrider.dev/image":"mine:3","outrider.dev/config":"cfg","outrider.dev/logs":"/l"}},"#
        + #""spec":{"containers":[{"name":"app"}]}}"#)
    let result = try apply(PodInjection.inject(into: pod, at: [], settings), to: pod)
    #expect(result.value(at: ["spec", "initContainers", "0", "image"])?.string == "mine:3")
    #expect(result.value(at: ["spec", "volumes", "0", "configMap", "name"])?.string == "cfg")
    #expect(
      result.value(at: ["spec", "containers", "0", "volumeMounts"])?.items.map { $0["mountPath"]?.string }
        == ["/run/outrider", "/l"])
  }

  @Test(arguments: [
    (#"{"spec":{"containers":[{"name":"outrider"}]}}"#, "did not make"),
    (#"{"spec":{"containers":[],"volumes":[{"name":"outrider-run"}]}}"#, "rename it"),
    (#"{"metadata":{"annotations":{"outrider.dev/config":"Not a name"}},"spec":{"containers":[]}}"#, "ConfigMap"),
    (#"{"metadata":{"annotations":{"outrider.dev/logs":"relative"}},"spec":{"containers":[]}}"#, "absolute path"),
    (#"{"metadata":{}}"#, "no `spec`"),
  ])
  func whatCannotBeDoneSaysWhy(text: String, part: String) throws {
    let pod = try parse(text)
    let error = #expect(throws: InjectionError.self) { try PodInjection.inject(into: pod, at: [], settings) }
    #expect(error?.description.contains(part) == true)
  }

  @Test func wishesAreHeard() throws {
    func refusal(_ text: String) throws -> PodInjection.Refusal? { PodInjection.refusal(of: try parse(text)) }
    #expect(try refusal(#"{"metadata":{"annotations":{"outrider.dev/inject":"false"}}}"#) == .notWanted)
    #expect(try refusal(#"{"metadata":{"labels":{"outrider.dev/inject":"false"}}}"#) == .notWanted)
    #expect(try refusal(#"{"spec":{"hostNetwork":true}}"#) == .hostNetwork)
    let insists = #"{"metadata":{"annotations":{"outrider.dev/inject":"true"}},"spec":{"hostNetwork":true}}"#
    #expect(try refusal(insists) == nil)
    #expect(try refusal(Self.pod) == nil)
  }
}
