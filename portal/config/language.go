package config

import (
	"maps"
	"slices"
)

// The bounds of the language. Names and patterns are bounded as the protocol bounds them; the lists
// by what one portal can serve, with room: a file of their product would not fit MaxSize.
const (
	maxName      = 255
	maxAccounts  = 1_000
	maxThings    = 50_000
	maxProviders = 32
	maxMembers   = 100_000
	maxFilters   = 64
	maxRanges    = 256 // of one resource: each is a filter on the wire, and compared with every other
	maxDevices   = 1_000
	maxValues    = 1_000
	maxWindows   = 64
	maxServers   = 8
	maxPath      = 4_096
)

// language is the shape of a policy file.
var language = keys("A policy file of a firelane portal.",
	must("version", &shape{kind: integer, about: "The version of the language, 1.", low: 1, high: 1}),
	may("relays", listOf(maxValues, 0, relayShape)),
	must("accounts", listOf(maxAccounts, 1, accountShape)),
)

var relayShape = keys("What is known about a relay beyond what it says when it connects.",
	must("name", words("The name the relay connects with.", maxName)),
	must("latitude", &shape{kind: number, about: "Degrees north.", low: -90, high: 90}),
	must("longitude", &shape{kind: number, about: "Degrees east.", low: -180, high: 180}),
)

var accountShape = keys("An organisation with all that belongs to it.",
	must("slug", checked("The account's short name in addresses of web pages.", checkSlug, "^[a-z0-9][a-z0-9_-]{1,62}$")),
	may("name", words("The account's name; the slug if it is left out.", maxName)),
	may("id", idShape),
	may("session_lifetime", checked("How long people stay signed in, such as 12h or 7d; 7d if it is left out.", checkLifetime, "^[0-9]+[mhd]$")),
	may("dns", dnsShape),
	may("providers", listOf(maxProviders, 0, providerShape)),
	may("sites", listOf(maxThings, 0, siteShape)),
	may("resources", listOf(maxThings, 0, resourceShape)),
	may("service_accounts", listOf(maxThings, 0, serviceAccountShape)),
	may("groups", listOf(maxThings, 0, groupShape)),
	may("policies", listOf(maxThings, 0, policyShape)),
)

var dnsShape = keys("What clients are told about their resolvers.",
	must("upstream", oneOf("Where clients ask: the system's resolvers, those in servers, or a secure provider.", "system", "custom", "secure")),
	may("servers", listOf(maxServers, 1, checked("The IP address of a resolver.", checkServer, ""))),
	may("provider", oneOf("The secure provider.", slices.Sorted(maps.Keys(dohProviders))...)),
	may("search_domain", checked("The domain that is appended to single words.", checkDomain, "")),
)

var providerShape = keys("An OpenID Connect provider that people sign in with.",
	must("name", words("Its name, which conditions and claims refer to.", maxName)),
	may("id", idShape),
	must("issuer", checked("The issuer, an address with https.", checkIssuer, "^https://")),
	must("client_id", words("The client id the provider has given out.", maxName)),
	may("client_secret_file", checked("The absolute path of the file with the client secret.", checkPath, "^/")),
	may("scopes", listOf(maxFilters, 0, words("A scope to ask for beside openid, email and profile.", maxName))),
	may("disabled", &shape{kind: boolean, about: "Nobody can sign in with it."}),
)

var siteShape = keys("A place with gateways.",
	must("name", words("Its name, which resources refer to.", maxName)),
	may("id", idShape),
)

var serviceAccountShape = keys("An actor that is not a person.",
	must("name", words("Its name, which groups refer to.", maxName)),
	may("id", idShape),
	may("disabled", &shape{kind: boolean, about: "Its tokens do not work."}),
)

var resourceShape = keys("Something that policies give access to.",
	must("name", words("Its name, which policies refer to.", maxName)),
	may("id", idShape),
	must("type", oneOf("What it is.", string(DNSResource), string(CIDRResource), string(IPResource), string(InternetResource),
		string(StaticDevicePool), string(DynamicDevicePool))),
	may("address", words("A pattern of names (dns, dynamic_device_pool), a prefix (cidr) or an address (ip).", maxName)),
	may("description", words("Shown to people instead of the address.", maxName)),
	may("ip_stack", oneOf("Which addresses a dns resource has; dual if it is left out.", "dual", "ipv4_only", "ipv6_only")),
	may("site", words("The name of the site whose gateways reach it; not for device pools.", maxName)),
	may("filters", listOf(maxFilters, 0, filterShape)),
	may("devices", listOf(maxDevices, 1, uuid("The id of a client in a static_device_pool."))),
)

var filterShape = keys("What is let through; with no filter, everything is.",
	must("protocol", oneOf("The protocol.", "tcp", "udp", "icmp")),
	may("ports", listOf(maxFilters, 1, &shape{
		kind: port, about: "A port or a range of ports, such as 443 or 8000-9000; all if there are none.",
		max: 11, check: checkPort, pattern: "^[0-9]{1,5}(-[0-9]{1,5})?$",
	})),
)

var groupShape = keys("A set of actors. The group Everyone, of all people, is always there.",
	must("name", words("Its name, which policies refer to.", maxName)),
	may("id", idShape),
	may("members", listOf(maxMembers, 0, checked("The e-mail address of a person.", checkEmail, "@"))),
	may("service_accounts", listOf(maxMembers, 0, words("The name of a service account.", maxName))),
	may("claims", listOf(maxFilters, 0, keys("People whose provider gives a claim this value, or a list with it.",
		must("provider", words("The name of the provider.", maxName)),
		must("claim", words("The name of the claim, such as groups.", maxName)),
		must("value", words("The value it must have, or its list must have.", maxName)),
	))),
)

var policyShape = keys("Gives a group access to a resource while the conditions hold.",
	may("name", words("Its name; made of the group's and the resource's if it is left out.", maxName)),
	may("id", idShape),
	must("group", words("The name of the group, or Everyone.", maxName)),
	must("resource", words("The name of the resource.", maxName)),
	may("disabled", &shape{kind: boolean, about: "It gives access to nobody."}),
	may("flow_logs", &shape{kind: boolean, about: "Devices upload what flows under this policy."}),
	may("conditions", conditionsShape),
)

var conditionsShape = keys("All of them must hold.",
	may("remote_ip", either("The address that a client connects from.", checked("An address or a prefix.", checkPrefix, ""))),
	may("region", either("The country that a client connects from; an unknown one never holds.", checked("ISO 3166 alpha-2.", checkRegion, "^[A-Z]{2}$"))),
	may("provider", either("The provider that a person signed in with.", words("Its name.", maxName))),
	may("time", listOf(maxWindows, 1, keys("Times of the week.",
		must("days", listOf(7, 1, oneOf("A day.", days...))),
		may("ranges", listOf(maxWindows, 1, checked("A part of the day, such as 09:00-17:30; the whole day if there are none.", checkDayRange, dayRangePattern))),
		must("zone", checked("The time zone, such as Europe/Berlin or UTC.", checkZone, "")),
	))),
	may("client_verified", &shape{kind: boolean, about: "The client has been verified by an administrator."}),
)

// days are the days of the week, as time.Weekday counts them.
var days = []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}

const (
	uuidPattern = "^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$"
	// nilUUID is what the protocol takes for no id.
	nilUUID         = "00000000-0000-0000-0000-000000000000"
	dayRangePattern = "^[0-9]{2}(:[0-9]{2}(:[0-9]{2})?)?-[0-9]{2}(:[0-9]{2}(:[0-9]{2})?)?$"
)

var idShape = uuid("A UUID in lower case; derived from the name if it is left out.")

func keys(about string, fields ...field) *shape {
	return &shape{kind: object, about: about, fields: fields}
}

func must(name string, s *shape) field { return field{name, true, s} }
func may(name string, s *shape) field  { return field{name, false, s} }

func listOf(most, least int, item *shape) *shape {
	return &shape{kind: list, item: item, max: most, least: least}
}

func words(about string, limit int) *shape { return &shape{kind: text, about: about, max: limit} }

func oneOf(about string, choices ...string) *shape {
	return &shape{kind: text, about: about, enum: choices}
}

func checked(about string, check func(string) (string, string), pattern string) *shape {
	return &shape{kind: text, about: about, max: maxPath, check: check, pattern: pattern}
}

func uuid(about string) *shape {
	s := checked(about, checkUUID, uuidPattern)
	s.never = nilUUID
	return s
}

// either is a condition on one value.
func either(about string, item *shape) *shape {
	return keys(about, may("in", listOf(maxValues, 1, item)), may("not_in", listOf(maxValues, 1, item)))
}
