import Injection
import Vocabulary

/// What strangers hand to injection: manifests and admission reviews.
enum InjectionTargets {
  private static let settings = InjectionSettings(image: "outrider:1")

  /// A manifest is refused, or gets its sidecar; a second time nothing changes, and what was added can be taken out.
  static func manifest(_ input: UnsafeRawBufferPointer) -> String? {
    guard input.count < 1 << 15, let text = String(validating: input, as: UTF8.self) else { return nil }
    do throws(InjectionError) {
      let injected = try ManifestInjection.inject(text, settings)
      if injected.changed == 0 { return injected.text == text ? nil : "changed without a change" }
      let again = try ManifestInjection.inject(injected.text, settings)
      if again.text != injected.text { return "a second injection changes it" }
      let bare = try ManifestInjection.uninject(injected.text)
      let before = try Manifest(text).documents
      let after = try Manifest(bare.text).documents
      guard before.count == after.count else { return "documents got lost" }
    } catch {}
    return nil
  }

  /// A review is refused or answered in JSON with its own uid.
  static func review(_ input: UnsafeRawBufferPointer) -> String? {
    do throws(InjectionError) {
      let review = try AdmissionReview(Array(input))
      let answer = review.answer(settings, .init())
      guard let node = try? JSONParser.parse(Array(answer.json.utf8)) else { return "an answer that is not JSON" }
      if node["response"]?["uid"]?.string != review.uid { return "an answer to another question" }
      if node["response"]?["allowed"]?.bool != true { return "a pod was refused" }
    } catch {
      if error.description.isEmpty { return "refused, and not why" }
    }
    return nil
  }
}
