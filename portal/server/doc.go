// Package server is the running portal: the driver of portal.Portal, and everything people and
// devices see of it over HTTP.
//
//   - the three websocket endpoints of gateways, clients and relays (connect.go)
//   - the sign-in of people with OpenID Connect (signin.go, provider.go)
//   - the HTTP API and its OpenAPI document (api*.go), and the upload of flow records (ingest.go)
//   - /healthz and /readyz
//
// It is not a place for decisions: who may talk to whom is decided by portal.Portal, what is kept is
// known to portal/store, what the policy file means to portal/config.
//
// # Driver
//
// The machine is under one lock, which is held from an input until its deliveries are with their
// channels: internal/channel's Send never blocks. Writes run on goroutines beside it, so that those
// that come at the same time share a commit; their results come back as inputs. Who reads too slowly
// is cut by internal/channel.
//
// # Edits
//
// The policy file is looked at four times a second, and read when it has stayed the same between two
// looks, or at Reload. A good one goes through the machine, which tells live channels what differs; a
// bad one changes nothing and is logged with file, line and column. The file in force is kept beside the
// database once everything it has revoked is on the disk, and what providers that it has removed said about
// people is forgotten. So an edit made while no portal ran takes effect like any other.
//
// What other processes change in the database, such as `firelane portal token revoke`, is noticed
// within half a second.
//
// # Trust
//
// Requests are anybody's until their token is known: header, query and body are bounded, tokens are
// tried at a limited rate for each source, no source may have all connections or websockets, and the address of a client is taken from
// X-Forwarded-For only if a configured proxy says so. Where a client is, is taken from such a proxy's
// headers only if GeoHeaders says that the proxy overwrites them. What is listed belongs to the account
// of the token that asks; relays, which serve all accounts, are listed without their secrets, and their
// tokens take a token of the API for the portal as a whole, as a backup of all of it does. No token, key or address is logged above debug.
package server
