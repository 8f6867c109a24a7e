import Supervisor
package import Traffic
package import Vocabulary

/// A socket and who serves on it.
package struct Seat: Sendable, Hashable {
  package enum Owner: Sendable, Hashable, CustomStringConvertible {
    case listener(ListenerID)
    case admin

    package var description: String {
      switch self {
      case .listener(let id): id.description
      case .admin: "admin"
      }
    }
  }
  package var owner: Owner
  package var address: Address
  package init(_ owner: Owner, _ address: Address) {
    self.owner = owner
    self.address = address
  }
}

/// What a reload does about sockets.
package struct SocketChanges: Sendable, Equatable {
  /// To be bound and served, in the new order. An address that had another owner is handed over: the supervisor's socket
  /// stays, so that connections wait meanwhile.
  package var opened: [Seat]
  /// No longer served.
  package var closed: [Seat]
  /// Nobody's any more: the supervisor closes its sockets too.
  package var released: [Address]
  /// Of `released`, those that must go first because a new address is the same port in another spelling (`:80` and
  /// `127.0.0.1:80`): connections that arrive in this instant are refused.
  package var releasedFirst: [Address]

  package init(from old: [Seat], to new: [Seat]) {
    opened = new.filter { !old.contains($0) }
    closed = old.filter { !new.contains($0) }
    let kept = Set(new.map(\.address))
    var seen: Set<Address> = []
    released = closed.map(\.address).filter { !kept.contains($0) && seen.insert($0).inserted }
    let fresh = opened.map(\.address)
    releasedFirst = released.filter { gone in fresh.contains { AddressConflicts.conflict(gone, $0) } }
  }
}

extension OutriderConfiguration {
  /// The sockets of every listener, outbound first, as they are opened.
  package var listenerSeats: [Seat] {
    (traffic.outbound + traffic.inbound).flatMap { listener in
      listener.listen.map { Seat(.listener(listener.id), $0) }
    }
  }

  /// The sockets of the admin API, the control socket first.
  package var adminSeats: [Seat] {
    let socket = Address.unix(path: admin.socket ?? stateDirectory + "/outrider.sock")
    return ([socket] + (admin.listen.map { [$0] } ?? [])).map { Seat(.admin, $0) }
  }
}
