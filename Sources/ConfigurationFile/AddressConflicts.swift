import Logs
import Supervisor
import Traffic
import Vocabulary

/// Two things cannot listen on one address.
struct AddressConflicts {
  let decoder: ConfigurationDecoder

  private struct User {
    var address: Address
    var owner: String
    var mark: Mark?
    var isUDP = false
  }

  func check(_ value: OutriderConfiguration) {
    var users: [User] = []
    if let port = value.app.port, !value.traffic.inbound.isEmpty || !value.traffic.outbound.isEmpty {
      users.append(
        User(
          address: .tcp(host: value.app.address, port: port), owner: "the app (`app.port`)", mark: mark("app", "port")))
    }
    for (direction, listeners) in [("inbound", value.traffic.inbound), ("outbound", value.traffic.outbound)] {
      for listener in listeners {
        let view = decoder.root[direction][listener.name]["listen"]
        for element in view.elements {
          guard let address = element.address else { continue }
          users.append(User(address: address, owner: "`\(direction).\(listener.name)`", mark: element.fallback))
        }
      }
    }
    for source in value.logs.sources {
      guard case .listen(let input) = source.input else { continue }
      let mark = decoder.root["logs"]["sources"][source.name]["listen"].fallback
      let owner = "`logs.sources.\(source.name)`"
      switch input.address {
      case .unix(let path): users.append(User(address: .unix(path: path), owner: owner, mark: mark))
      case .tcp(let host, let port): users.append(User(address: .tcp(host: host, port: port), owner: owner, mark: mark))
      case .udp(let host, let port):
        users.append(User(address: .tcp(host: host, port: port), owner: owner, mark: mark, isUDP: true))
      }
    }
    if let address = value.admin.listen {
      users.append(User(address: address, owner: "`admin`", mark: mark("admin", "listen")))
    }
    for (index, user) in users.enumerated() {
      guard
        let other = users[..<index].first(where: {
          $0.isUDP == user.isUDP && Self.conflict($0.address, user.address)
        })
      else { continue }
      let place = other.mark.map { " at \(decoder.report.place($0))" } ?? ""
      decoder.report.error(
        user.mark ?? other.mark, "\(user.owner) and \(other.owner)\(place) both listen on \(user.address)",
        "give one of them another port")
    }
  }

  private func mark(_ record: String, _ key: String) -> Mark? {
    let view = decoder.root[record][key]
    return view.exists ? view.fallback : nil
  }

  /// Equal, or the same port on all interfaces and on one.
  static func conflict(_ a: Address, _ b: Address) -> Bool {
    switch (a, b) {
    case (.unix(let left), .unix(let right)): return left == right
    case (.tcp(let left, let leftPort), .tcp(let right, let rightPort)):
      guard leftPort == rightPort, leftPort != 0 else { return false }
      let all: Set = ["", "0.0.0.0", "::"]
      let names = [left, right].map { $0 == "localhost" ? "127.0.0.1" : $0 }
      return names[0] == names[1] || all.contains(left) || all.contains(right)
    default: return false
    }
  }
}
