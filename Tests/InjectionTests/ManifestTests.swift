import Injection
import Testing
import Vocabulary

private let settings = InjectionSettings(image: "outrider:1")

@Suite struct ManifestTests {
  static let deployment = """
    # A shop.
    apiVersion: apps/v1
    kind: Deployment   # of the shop
    metadata: {name: shop, labels: {"app": 'shop'}}
    spec:
      template:
        # Pods
        metadata:
          labels: {app: shop}
        spec:
          containers:
          # The only one: ünïcode stays, too
          - name: app
            image: "shop:1"   # pinned
            command: ["sh", "-c", "exec run"]

          terminationGracePeriodSeconds: 30
          # last words of the pod
    ---
    kind: Service
    metadata:
      name: shop   # untouched
    """ + "\n"

  @Test func everyOtherLineStaysAndComesBack() throws {
    let injected = try ManifestInjection.inject(Self.deployment, settings)
    #expect(injected.changed == 1)
    let before = Self.deployment.split(separator: "\n", omittingEmptySubsequences: false)
    var rest = injected.text.split(separator: "\n", omittingEmptySubsequences: false)[...]
    for line in before {
      let place = try #require(rest.firstIndex(of: line), "the line `\(line)` is not there, or not in its order")
      rest = rest[(place + 1)...]
    }
    #expect(injected.text.contains("restartPolicy: Always"))
    let again = try ManifestInjection.inject(injected.text, settings)
    #expect(again.changed == 0 && again.text == injected.text)
    #expect(try ManifestInjection.uninject(injected.text).text == Self.deployment)
  }

  @Test(arguments: [
    #"{"kind":"Pod","metadata":{"name":"a"},"spec":{"containers":[{"name":"app"}]}}"#,
    #"{"kind":"Pod","metadata":{},"spec":{"containers":[{"name":"app","volumeMounts":[]}],"volumes":[]}}"#,
    "kind: Pod\nspec:\n  containers: [{name: app}]",
    "kind: Pod\nmetadata:\n  annotations:\nspec:\n  containers:\n  - name: app\n    image: x",
    "kind: Job\nspec:\n  template:\n    spec:\n      containers:\n        - image: x\n          name: app\n      volumes:\n        - name: v\n",
    "kind: CronJob\nspec:\n  jobTemplate:\n    spec:\n      template:\n        spec:\n          containers:\n          - {name: app}\n",
    "kind: List\nitems:\n- kind: Pod\n  spec:\n    containers:\n    - name: a\n- kind: Pod\n  spec:\n    containers:\n    - name: b\n",
    "kind: StatefulSet\nspec:\n  template:\n    metadata:\n      annotations: {}\n    spec:\n      initContainers:\n      # first\n      - name: i\n      containers:\n      - name: app\n        args: [\n          a,\n          b]\r\n",
  ])
  func eachLayoutTakesTheSidecar(text: String) throws {
    let injected = try ManifestInjection.inject(text, settings)
    #expect(injected.changed >= 1)
    let again = try ManifestInjection.inject(injected.text, settings)
    #expect(again.text == injected.text)
    let bare = try ManifestInjection.uninject(injected.text)
    for document in try Manifest(bare.text).documents {
      #expect(!document.json.contains("outrider"))
    }
  }

  @Test func whatIsNoWorkloadStays() throws {
    let text = "kind: ConfigMap\ndata:\n  a: |\n    kind: Pod\n"
    let outcome = try ManifestInjection.inject(text, settings)
    #expect(outcome.text == text && outcome.notes.isEmpty)
  }

  @Test(arguments: [
    ("kind: {{ .Values.kind }}\n", "rendered"),
    ("kind: Pod\nkind: Pod\n", "twice"),
    ("a: &x\n  kind: Pod\nkind: Deployment\nspec:\n  template: *x\n", ""),
    ("kind: Pod\nmetadata: {name: p}\nspec: {containers: [{name: outrider}]}\n", "Pod/p"),
  ])
  func whatCannotBeUsedSaysWhy(text: String, part: String) {
    let outcome = Result { try ManifestInjection.inject(text, settings) }
    switch outcome {
    case .failure(let error): #expect("\(error)".contains(part))
    case .success(let outcome): #expect(part.isEmpty && outcome.text == text)
    }
  }

  @Test func pointersAreEscaped() {
    let patch = Change.add(["metadata", "annotations", "outrider.dev/status~x"], .string("y")).patch
    #expect(patch["path"]?.string == "/metadata/annotations/outrider.dev~1status~0x")
  }
}
