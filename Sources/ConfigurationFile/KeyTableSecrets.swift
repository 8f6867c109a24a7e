extension KeyTable {
  static let secrets: [Key] = [
    .key("stores", .variants(common: [], kinds: storeKinds), nil, "Where secrets come from, by name."),
    .key("values", .map(.record(value)), nil, "Secrets, by the name that `${secrets.NAME.FIELD}` uses."),
    .key("files", .list(.record(file)), nil, "Files made from secrets."),
    .key("shared_memory", .record(sharedMemory), nil, "Secrets in memory that the app maps."),
    .key("socket", .record(socket), nil, "An HTTP API for secrets on a Unix socket."),
  ]

  private static let sharedMemory: [Key] = [
    .key("values", .oneOrList(.leaf(.text)), nil, "Names of secrets.", required: true),
    .key("path", .path, nil, "A file of it, in `/dev/shm`; without one the app inherits it or asks the socket."),
  ]

  private static let socket: [Key] = [
    .key("path", .path, nil, "Where it stands.", required: true),
    .key(
      "uids", .oneOrList(.leaf(.text)), nil,
      "Users who may ask, besides root and the sidecar's own; the app's user when absent."),
  ]

  private static let approle: [Key] =
    [
      .key("mount", .text, "approle", "Where the auth method is mounted."),
      .key("role_id", .text, nil, "The role id.", sensitive: true),
      .key("role_id_file", .path, nil, "A file with the role id, read at every login."),
      .key("secret_id", .text, nil, "The secret id.", sensitive: true),
      .key("secret_id_file", .path, nil, "A file with the secret id, read at every login."),
      .key(
        "wrapped", .text, nil,
        "The secret id is a wrapping token: where it must have been made (`auth/approle/role/ROLE/secret-id`), or `true` "
          + "for any role of the mount."),
    ]

  private static func signed(_ mount: String, _ file: String?) -> [Key] {
    [
      .key("mount", .text, mount, "Where the auth method is mounted."),
      .key("role", .text, nil, "The role.", required: true),
      .key("jwt_file", .path, file, "A file with the signed token, read at every login.", required: file == nil),
    ]
  }

  static let serviceAccount = "/var/run/secrets/kubernetes.io/serviceaccount/token"

  private static let auth: [Key] = [
    .key("approle", .record(approle), nil, "AppRole."),
    .key("kubernetes", .record(signed("kubernetes", serviceAccount)), nil, "A service account of Kubernetes."),
    .key("jwt", .record(signed("jwt", nil)), nil, "A signed token."),
    .key(
      "cert",
      .record([
        .key("mount", .text, "cert", "Where the auth method is mounted."),
        .key("name", .text, nil, "The role; whichever fits when absent."),
      ]), nil, "The client certificate of `tls`."),
    .key("token_file", .path, nil, "A file with a token."),
    .key("token", .secretText, nil, "A token.", sensitive: true),
  ]

  static let storeKinds: [Key] = [
    .key(
      "vault",
      .record([
        .key("address", .url, nil, "`https://host:port`.", required: true),
        .key("namespace", .text, nil, "The namespace."),
        .key("tls", .record(clientTLS), nil, "How the server is checked."),
        .key("auth", .record(auth), nil, "How the sidecar logs in; one of the methods.", required: true),
        .key("revoke_at_stop", .boolean, "true", "Gives leases, and the token of a login, back at stop."),
      ]), nil, "Vault or OpenBao."),
    .key(
      "age",
      .record([
        .key("file", .path, nil, "An age-encrypted YAML, JSON or dotenv file.", required: true),
        .key("identity", .path, nil, "The file with the identity that opens it.", required: true),
      ]), nil, "An encrypted file."),
    .key(
      "file", .record([.key("directory", .path, nil, "One file a field, or one directory a secret.", required: true)]),
      nil,
      "A directory, for example a mounted Kubernetes Secret."),
    .key("env", .record([]), nil, "The sidecar's environment."),
  ]

  private static let change = Key.key(
    "on_change",
    .record([
      .key("signal", .signal, nil, "Sent to the app."),
      .key("restart", .boolean, nil, "`true` restarts the app."),
      .key("exec", .list(.leaf(.text)), nil, "A program and its arguments, run by the sidecar; 0 is success."),
      .key("http", .url, nil, "Gets a POST; 2xx is success."),
      .key("timeout", .interval, "30s", "`exec` and `http`: the longest time for one try."),
    ]), nil, "What follows a change.")

  static let value: [Key] =
    [
      .key("from", .text, nil, "The store; may be left out when there is one."),
      .key("kv", .text, nil, "`MOUNT/PATH` in a vault store, without `data/`."),
      .key("key", .text, nil, "The name in an age, file or env store; the value's own name when absent."),
      .key(
        "database", .text, nil,
        "`MOUNT/creds/ROLE` in a vault store: credentials of their own, with a lease that is renewed."),
      .key(
        "database_static", .text, nil, "`MOUNT/static-creds/ROLE` in a vault store: credentials the server rotates."),
      .key(
        "pki", .text, nil,
        "`MOUNT/issue/ROLE` in a vault store: a certificate with its key, renewed at ⅔ of its life; `MOUNT/sign/ROLE`: "
          + "the key is made here and never sent."),
      .key("common_name", .text, nil, "`pki`: the subject's common name."),
      .key("alt_names", .oneOrList(.leaf(.text)), nil, "`pki`: more DNS names."),
      .key("ip_sans", .oneOrList(.leaf(.text)), nil, "`pki`: IP addresses."),
      .key("uri_sans", .oneOrList(.leaf(.text)), nil, "`pki`: URIs, for example a SPIFFE id."),
      .key("ttl", .interval, nil, "`pki`: the life asked for; the role's when absent."),
      .key("refresh", .interval, "30s", "Time between looks for a change."),
      .key("required", .boolean, "true", "The app does not start without it."),
      change,
    ]

  static let file: [Key] = [
    .key("path", .path, nil, "The file to write.", required: true),
    .key("value", .secretText, nil, "The content: text with `${secrets.NAME.FIELD}`.", sensitive: true),
    .key("template", .secretText, nil, "The same, for longer text.", sensitive: true),
    .key("template_file", .path, nil, "A file with the template."),
    .key("mode", .mode, "\"0600\"", "Permission bits."),
    .key("owner", .text, nil, "A user name or number."),
    .key("group", .text, nil, "A group name or number."),
    .key("set", .text, nil, "Files of the same directory with the same name here switch together."),
    change,
  ]
}
