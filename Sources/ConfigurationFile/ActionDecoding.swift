import RegularExpressions
import Traffic
import Vocabulary

/// What a route does: one of `to`, `split`, `redirect` and `respond`; and how it rewrites the target.
extension ConfigurationDecoder {
  private static let actions = ["to", "split", "redirect", "respond"]

  func action(
    _ view: TreeView, _ name: String, _ listener: String, _ direction: Direction, _ rules: ClusterReferences,
    _ path: RouteConfiguration.Match.Path
  ) -> RouteConfiguration.Action? {
    let named = Self.actions.filter { view[$0].exists }
    guard let kind = named.first, named.count == 1 else {
      if Self.actions.contains(where: view.isBroken) { return nil }
      view.error(
        named.isEmpty ? "`\(view.path)` has no action" : "`\(view.path)` has \(named.count) actions",
        "keep one of `to`, `split`, `redirect` and `respond`")
      return nil
    }
    switch kind {
    case "to":
      return rules.target(view["to"], listener: listener, direction, part: name).map { .cluster($0) }
    case "split": return split(view["split"], name, listener, direction, rules)
    case "redirect": return redirect(view["redirect"], path)
    default:
      let respond = view["respond"]
      return .respond(
        status: respond["status"].int ?? 200, body: respond["body"].text ?? "", headers: fields(respond["headers"]))
    }
  }

  private func split(
    _ view: TreeView, _ name: String, _ listener: String, _ direction: Direction, _ rules: ClusterReferences
  ) -> RouteConfiguration.Action? {
    var parts: [RouteConfiguration.SplitPart] = []
    for entry in view.entries {
      let target = TreeView(key: entry.key, entry.mark, path: entry.value.path, report: report)
      let part = "\(name)/\(entry.key.split(separator: "/").last ?? "")"
      guard let weight = entry.value.int,
        let cluster = rules.target(target, listener: listener, direction, part: part)
      else { continue }
      parts.append(RouteConfiguration.SplitPart(cluster: cluster, weight: weight))
    }
    guard parts.count == view.entries.count, !view.isBrokenItself else { return nil }
    if !parts.contains(where: { $0.weight > 0 }) {
      view.error(
        parts.isEmpty ? "`\(view.path)` is empty" : "every weight of `\(view.path)` is 0",
        "write each target with its weight, for example `split: { stable: 95, next: 5 }`")
      return nil
    }
    return .split(parts)
  }

  private func redirect(_ view: TreeView, _ path: RouteConfiguration.Match.Path) -> RouteConfiguration.Action? {
    let code = view["code"].int ?? 302
    let edits = ["scheme", "host", "prefix"].filter { view[$0].exists }
    if let to = view["to"].text {
      if let other = edits.first {
        view[other].error("`\(view.path)` has both `to` and `\(other)`", "keep `to`, or the parts that change")
      }
      if !HeaderName.isValidValue(to) || !to.allSatisfy(\.isASCII) {
        view["to"].error("`\(view.path).to` is not a location", "write a URL or a path")
      }
      return .redirect(to: to, code: code)
    }
    guard !edits.isEmpty else {
      if !view.isBrokenItself {
        view.error("`\(view.path)` does not say where to", "add `to`, or one of `scheme`, `host` and `prefix`")
      }
      return nil
    }
    if let host = view["host"].text, !Self.isAuthority(host) {
      view["host"].error("`\(view.path).host` is not a host", "write `name` or `name:port`")
    }
    checkPrefix(view["prefix"], path)
    let change = RedirectEdits(
      scheme: view["scheme"].text, host: view["host"].text, prefix: view["prefix"].text)
    return .redirectPart(change, code: code)
  }

  /// RFC 3986 section 3.2, without a user.
  static func isAuthority(_ text: String) -> Bool {
    !text.isEmpty && text.utf8.allSatisfy { $0 > 0x20 && $0 < 0x7F && !"/?#@\\,<>\"".utf8.contains($0) }
  }

  /// A prefix takes the place of what `path` matched.
  private func checkPrefix(_ view: TreeView, _ path: RouteConfiguration.Match.Path) {
    guard view.exists, case .regex = path else { return }
    view.error("`\(view.path)` needs `match.path`, not `match.regex`", "use `rewrite.regex`, or match by `path`")
  }

  func rewrite(_ view: TreeView, into route: inout RouteConfiguration) {
    route.rewritePrefix = view["prefix"].text
    checkPrefix(view["prefix"], route.match.path)
    route.rewriteHost = view["host"].text
    if let host = route.rewriteHost, !HeaderName.isValidValue(host) || host.isEmpty {
      view["host"].error("`\(view.path).host` is not a host", "write `name` or `name:port`")
    }
    let regex = view["regex"]
    guard regex.exists else { return }
    if view["prefix"].exists {
      regex.error("`\(view.path)` has both `prefix` and `regex`", "keep one of them")
    }
    guard let expression = expression(regex["pattern"], .somewhere), let text = regex["substitution"].text else {
      return
    }
    do throws(Substitution.Invalid) {
      let substitution = try Substitution(text, groups: expression.groups)
      route.rewriteRegex = RegexRewrite(expression, substitution)
    } catch {
      regex["substitution"].error(
        "`\(regex.path).substitution` cannot be used: \(error.reason)", "write a path with `\\1` for the first group")
    }
  }
}

extension ConfigurationDecoder {
  /// A target, or a map with the part of the requests.
  func mirror(
    _ view: TreeView, of route: RouteConfiguration, _ listener: String, _ direction: Direction,
    _ rules: ClusterReferences
  ) -> MirrorConfiguration? {
    guard view.exists else { return nil }
    switch route.action {
    case .cluster, .split: break
    case .redirect, .redirectPart, .respond:
      view.error("`\(view.path)` has nothing to copy: the route answers itself", "remove it, or use `to`")
      return nil
    }
    var target = view["to"]
    if view.isScalar, let text = view.text, let mark = view.node?.mark {
      target = TreeView(key: text, mark, path: view.path, report: report)
    }
    guard let cluster = rules.target(target, listener: listener, direction, part: "\(route.name)/mirror") else {
      return nil
    }
    return MirrorConfiguration(cluster: cluster, fraction: view.isScalar ? 1 : view["fraction"].fraction ?? 1)
  }
}

extension TreeView {
  /// A key as if it were a value.
  init(key: String, _ mark: Mark, path: String, report: ProblemReport) {
    let scalar = Node(mark: mark, content: .scalar(Node.Scalar(raw: key, isQuoted: true)))
    self.init(
      Node(mark: mark, content: .sequence([scalar]), isImplicit: true), path: path, fallback: mark, report: report)
  }
}

extension ClusterReferences {
  /// The cluster that a target leads to; `part` as for `action`.
  func target(_ view: TreeView, listener: String, _ direction: Direction, part: String) -> String? {
    guard case .cluster(let name)? = action(view, listener: listener, direction, part: part) else { return nil }
    return name
  }
}
