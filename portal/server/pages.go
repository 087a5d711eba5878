package server

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"html/template"
	"net/http"
)

// style is the only thing pages load, and it is in them: their security policy names its hash.
const style = `body{font:16px/1.5 system-ui,sans-serif;max-width:36em;margin:4em auto;padding:0 1em;color:#222;background:#fff}
h1{font-size:1.4em}a.way{display:block;padding:.7em 1em;margin:.5em 0;border:1px solid #888;border-radius:.4em;color:inherit;text-decoration:none}
code{display:block;padding:1em;background:#f2f2f2;border-radius:.4em;word-break:break-all;user-select:all}`

// pages are all pages; each is a template of its own within the frame.
var pages = template.Must(template.New("").Funcs(template.FuncMap{
	"style": func() template.CSS { return style },
}).Parse(`
{{define "head"}}<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Sign in</title><style>{{style}}</style></head><body>{{end}}
{{define "foot"}}</body></html>{{end}}

{{define "account"}}{{template "head"}}<h1>Sign in</h1>
<form action="/" method="get"><label>Account <input name="account" required autofocus></label> <button>Go on</button></form>
{{template "foot"}}{{end}}

{{define "choice"}}{{template "head"}}<h1>Sign in to {{.Account}}</h1>
{{range .Links}}<a class="way" href="{{.Path}}">Sign in with {{.Name}}</a>
{{else}}<p>Nobody can sign in here: the account has no provider. Use the token of a service account.</p>{{end}}
{{template "foot"}}{{end}}

{{define "token"}}{{template "head"}}<h1>Welcome, {{.Name}}</h1>
<p>Copy this token into your client. It is shown once, and opens {{.Account}} until {{.Until}}.</p>
<code id="token">{{.Token}}</code>
{{template "foot"}}{{end}}

{{define "failed"}}{{template "head"}}<h1>That did not work</h1><p id="reason">{{.}}</p>{{template "foot"}}{{end}}
`))

// security is the Content-Security-Policy of all pages: nothing but their own style and forms.
var security = func() string {
	sum := sha256.Sum256([]byte(style))
	return "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) +
		"'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
}()

// render writes a page. Tokens are on some, so no page is kept by anybody.
func render(w http.ResponseWriter, status int, name string, data any) {
	var b bytes.Buffer
	if err := pages.ExecuteTemplate(&b, name, data); err != nil {
		http.Error(w, "page cannot be made", http.StatusInternalServerError)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", security)
	h.Set("Cache-Control", "no-store")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	w.WriteHeader(status)
	_, _ = w.Write(b.Bytes())
}
