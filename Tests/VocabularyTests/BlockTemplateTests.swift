import Testing

@testable import Vocabulary

struct BlockTemplateTests {
  private static let fields: [TemplateValue.Entry] = [
    .init("encoded", .text("aHVudGVyMg==")), .init("list", .text("a,b,c")), .init("my-key", .text("dashed")),
    .init("password", .text("hunter2")), .init("pem", .text("one\n\ntwo\n")), .init("user", .text("shop & <co>")),
  ]
  private static let value = TemplateValue.map([
    .init("Data", .map([.init("data", .map(fields)), .init("ttl", .number(5))] + fields))
  ])

  private func render(_ text: String) throws -> String {
    let template = try BlockTemplate(parsing: text) { $0 == "HOST" ? .value("db {{ .x }}") : .unset }
    let bytes = try template.render(
      .init(
        source: { $0.path == "secret/db" ? .success(Self.value) : .failure(.init("not there")) },
        text: { .success(Array($0.description.utf8)) }, environment: { $0 == "HOME" ? "/root" : nil }))
    return String(decoding: bytes, as: UTF8.self)
  }

  @Test(arguments: [
    ("plain", "plain"),
    ("{{ with secret \"secret/db\" }}{{ .Data.data.password }}{{ end }}", "hunter2"),
    ("{{with secret `secret/db`}}{{.Data.password}}{{end}}", "hunter2"),
    ("a {{- with secret \"secret/db\" -}} {{ .Data.data.user }} {{- end -}} b", "ashop & <co>b"),
    (
      "{{ range $k, $v := (secret \"secret/db\").Data.data }}{{ $k }};{{ end }}",
      "encoded;list;my-key;password;pem;user;"
    ),
    (
      "{{ with $s := secret \"secret/db\" }}{{ range $v := $s.Data.data.list | split \",\" }}[{{ $v }}]{{ end }}{{ end }}",
      "[a][b][c]"
    ),
    ("{{ with secret \"secret/db\" }}{{ .Data.data.list | split \",\" | join \"-\" }}{{ end }}", "a-b-c"),
    ("{{ with secret \"secret/db\" }}{{ .Data.data.encoded | base64Decode }}{{ end }}", "hunter2"),
    ("{{ base64Encode \"hunter2\" }}", "aHVudGVyMg=="),
    ("{{ with secret \"secret/db\" }}{{ .Data.data.user | toJSON }}{{ end }}", "\"shop \\u0026 \\u003cco\\u003e\""),
    ("{{ with secret \"secret/db\" }}{{ .Data.data.pem | indent 2 }}{{ end }}", "  one\n\n  two\n"),
    ("{{ \"  x \\n\" | trimSpace }}", "x"),
    ("{{ env \"HOME\" }}{{ env \"NONE\" }}", "/root"),
    ("{{ with secret \"secret/db\" }}{{ if .Data.data.none }}yes{{ else }}no{{ end }}{{ end }}", "no"),
    ("{{ with secret \"secret/db\" }}{{ if .Data.data.user }}yes{{ else }}no{{ end }}{{ end }}", "yes"),
    ("{{ if eq (env \"HOME\") \"/\" }}a{{ else if eq (env \"HOME\") \"/root\" }}b{{ else }}c{{ end }}", "b"),
    ("{{ with secret \"secret/db\" }}{{ index .Data.data \"my-key\" }}{{ end }}", "dashed"),
    ("{{ $x := \"a\" }}{{ if true }}{{ $x := \"b\" }}{{ $x }}{{ end }}{{ $x }}", "ba"),
    ("{{ $x := \"a\" }}{{ if true }}{{ $x = \"b\" }}{{ $x }}{{ end }}{{ $x }}", "bb"),
    ("{{/* {{ not a block }} */}}x", "x"), ("{{- /* trimmed */ -}}  x", "x"),
    ("{{ range split \",\" \" \" }}[{{ . }}]{{ else }}none{{ end }}", "none"),
    ("{{ with env \"NONE\" }}a{{ else }}b{{ end }}", "b"),
    ("{{ not false }} {{ and true \"x\" }} {{ or \"\" \"y\" }} {{ ne 1 2 }}", "true x y true"),
    ("{{ -3 }}{{- 4 }}", "-34"),
    // What comes from the environment is not read as a template.
    ("${HOST} ${secrets.db.user|upper}", "db {{ .x }} ${secrets.db.user|upper}"),
    ("$${x} }} {", "${x} }} {"),
  ])
  func renders(text: String, expected: String) throws { #expect(try render(text) == expected) }

  @Test(arguments: [
    ("{{ with secret \"secret/db\" }}x", 1, 1, "`with` without an `end`"),
    ("a\n{{ end }}", 2, 1, "without an `if`"),
    ("é {{ printf \"%s\" \"a\" }}", 1, 6, "the function `printf` is not in the subset"),
    ("{{ template \"x\" }}", 1, 4, "`template` is not in the subset"),
    ("{{ secret (env \"X\") }}", 1, 4, "must be literal"), ("{{ env \"X\" | secret }}", 1, 14, "must be literal"),
    ("{{ $x }}", 1, 4, "`$x` is not declared"), ("{{ $x = 1 }}", 1, 4, "`$x` is not declared"),
    ("{{ if true }}{{ $y := 1 }}{{ end }}{{ $y }}", 1, 39, "`$y` is not declared"),
    ("{{ .a", 1, 1, "does not end"), ("{{ \"a }}", 1, 4, "a text that does not end"),
    ("{{ (env \"a\" }}", 1, 4, "never closed"),
    ("{{ }}", 1, 4, "a value is missing"), ("{{ .a.b-c }}", 1, 8, "cannot hold `-`"),
    ("{{ indent 2 }}", 1, 4, "takes 2 arguments"), ("{{ .a .b }}", 1, 4, "takes no arguments"),
    ("{{ \"\\q\" }}", 1, 6, "unknown escape"), ("{{/* x", 1, 1, "a comment that does not end"),
    ("{{ if true }}{{ else }}{{ else }}{{ end }}", 1, 24, "a second `else`"),
    ("{{ env trimSpace }}", 1, 8, "put it in parentheses"), ("x ${UNSET}", 1, 3, "is not set"),
    ("{{ # }}", 1, 4, "is not understood"),
  ])
  func refuses(text: String, line: Int, column: Int, message: String) {
    let problem = #expect(throws: BlockTemplate.Problem.self) {
      try BlockTemplate(parsing: text) { _ in .unset }
    }
    #expect(problem?.place == .init(line: line, column: column), "\(problem?.description ?? "")")
    #expect(problem?.description.contains(message) == true, "\(problem?.description ?? "")")
  }

  @Test(arguments: [
    ("\n {{ with secret \"secret/db\" }}{{ .Data.data.none }}{{ end }}", 2, 34, "no field `none`"),
    ("{{ secret \"secret/other\" }}", 1, 4, "not there"),
    ("{{ with secret \"secret/db\" }}{{ .Data.data }}{{ end }}", 1, 33, "has no text"),
    ("{{ with secret \"secret/db\" }}{{ .Data.data.user.x }}{{ end }}", 1, 33, "has no fields"),
    ("{{ with secret \"secret/db\" }}{{ .Data.data.user | base64Decode }}{{ end }}", 1, 51, "not base64"),
    ("{{ range \"text\" }}{{ end }}", 1, 10, "needs a list"),
  ])
  func failsToRender(text: String, line: Int, column: Int, message: String) {
    let problem = #expect(throws: BlockTemplate.Problem.self) { try render(text) }
    #expect(problem?.place == .init(line: line, column: column), "\(problem?.description ?? "")")
    #expect(problem?.description.contains(message) == true, "\(problem?.description ?? "")")
    #expect(problem?.description.contains("hunter2") == false && problem?.description.contains("<co>") == false)
  }

  @Test func nestingIsBounded() {
    for text in [
      String(repeating: "{{ if true }}", count: 1000), "{{ " + String(repeating: "(", count: 1000),
      String(repeating: "{{ if true }}{{ else ", count: 1000),
    ] {
      #expect(throws: BlockTemplate.Problem.self) { try BlockTemplate(parsing: text) }
    }
  }

  @Test func whatIsAskedForIsKnownBefore() throws {
    let template = try BlockTemplate(
      parsing:
        "{{ with pkiCert \"/pki/issue/web\" \"common_name=web.internal\" \"ttl=24h\" }}{{ .Cert }}{{ end }}${secrets.db.user}"
    )
    #expect(template.sources.map(\.path) == ["pki/issue/web"])
    #expect(template.sources[0].isCertificate && template.sources[0].value(of: "common_name") == "web.internal")
    #expect(template.references.map(\.name) == ["db"])
  }
}
