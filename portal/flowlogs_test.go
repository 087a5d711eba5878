package portal

import (
	"encoding/json"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/firelane/firelane/protocol/signal"
)

// closedRecord and openRecord are the protocol's examples.
const (
	closedRecord = `{"protocol":"tcp","inner_src_ip":"100.64.12.9","inner_src_port":50122,"inner_dst_ip":"10.2.0.8","inner_dst_port":443,
  "domain":"git.corp.example",
  "outers":[{"src_ip":"198.51.100.20","src_port":52625,"dst_ip":"192.0.2.44","dst_port":49801,"path_activated_at":"2026-09-21T13:34:00.123456Z"}],
  "flow_start":"2026-09-21T13:34:00.123456Z","flow_end":"2026-09-21T13:35:10Z","last_packet":"2026-09-21T13:35:09Z",
  "rx_packets":12,"tx_packets":10,"rx_bytes":8120,"tx_bytes":1400}`
	openRecord = `{"protocol":"udp","inner_src_ip":"fd00::1","inner_src_port":1,"inner_dst_ip":"fd00::2","inner_dst_port":53,"flow_start":"2026-09-21T13:34:00Z","more":1}`
)

func ingestHeader(t testing.TB, enabled bool, secret [32]byte) string {
	t.Helper()
	token, err := signal.SignIngestToken(signal.IngestClaims{
		AccountID: uuid(account1), IssuedAt: start.Unix(), ExpiresAt: start.Add(time.Hour).Unix(), UploadsEnabled: enabled, Role: signal.Initiator,
		InitiatorDeviceID: uuid(client1), ResponderDeviceID: uuid(gateway1), PolicyAuthorizationID: uuid(policy1), PolicyID: uuid(policy1),
		ResourceID: uuid(resource1), ResourceName: "Lab net", InitiatorActorID: uuid(actor1), InitiatorActorName: "robot",
		AuthorizedAt: "2026-09-21T13:33:20.000000Z", AuthorizationExpiresAt: "2026-09-22T13:33:20.000000Z",
	}, IngestKey(secret, account1))
	if err != nil {
		t.Fatal(err)
	}
	return "Bearer " + token.Reveal()
}

func TestUploadIsAttributedByItsToken(t *testing.T) {
	u := Ingest{Secret: key(7)}.Accept(ingestHeader(t, true, key(7)), []byte(`{"flow_logs":[`+closedRecord+`,`+openRecord+`]}`), start)
	if u.Status != 200 || string(u.Body) != `{"data":{"status":"ok"}}` || u.Account != account1 || len(u.Logs) != 2 {
		t.Fatalf("answer is %d %s with %d logs", u.Status, u.Body, len(u.Logs))
	}
	l := u.Logs[0]
	if !l.Closed || l.Initiator != client1 || l.Resource != resource1 || l.Role != "initiator" || l.Dst.String() != "10.2.0.8:443" {
		t.Errorf("log is %+v", l)
	}
	if u.Logs[1].Closed || strings.Contains(string(u.Logs[1].Body), "more") {
		t.Errorf("open log is %+v with %s", u.Logs[1], u.Logs[1].Body)
	}
	var body map[string]any
	if err := json.Unmarshal(l.Body, &body); err != nil || body["domain"] != "git.corp.example" || body["initiator_actor_id"] != actor1 ||
		body["rx_bytes"] != 8120.0 || body["flow_start"] != "2026-09-21T13:34:00.123456Z" {
		t.Errorf("body is %s", l.Body)
	}
}

func TestUploadsAreRefused(t *testing.T) {
	good := ingestHeader(t, true, key(7))
	many := `{"flow_logs":[` + strings.Repeat("{},", MaxIngestRecords) + `{}]}`
	for _, c := range []struct {
		name, header, body string
		at                 time.Time
		status             int
	}{
		{"no token", "", `{"flow_logs":[]}`, start, 401},
		{"not a token", "Bearer x", `{"flow_logs":[]}`, start, 401},
		{"key of another portal", ingestHeader(t, true, key(8)), `{"flow_logs":[]}`, start, 401},
		{"expired", good, `{"flow_logs":[]}`, start.Add(time.Hour), 401},
		{"not enabled", ingestHeader(t, false, key(7)), `{"flow_logs":[]}`, start, 401},
		{"no list", good, `{}`, start, 400},
		{"no JSON", good, `[`, start, 400},
		{"no list at all", good, `{"flow_logs":null}`, start, 400},
		{"two lists", good, `{"flow_logs":[],"flow_logs":[]}`, start, 400},
		{"half a list", good, `{"flow_logs":[{}`, start, 400},
		{"more than one value", good, `{"flow_logs":[]} {}`, start, 400},
		{"other fields", good, `{"a":{"flow_logs":1},"flow_logs":[],"b":[1]}`, start, 200},
		{"too many", good, many, start, 400},
		{"too long", good, strings.Repeat(" ", MaxIngestBody+1), start, 400},
		{"another authorization", good, `{"flow_logs":[{"policy_authorization_id":"` + client1 + `"}]}`, start, 422},
		{"empty", good, `{"flow_logs":[]}`, start, 200},
	} {
		u := Ingest{Secret: key(7)}.Accept(c.header, []byte(c.body), c.at)
		if u.Status != c.status || len(u.Logs) != 0 {
			t.Errorf("%s: %d %s", c.name, u.Status, u.Body)
		}
		if c.status != 200 && u.ContentType != signal.ProblemType {
			t.Errorf("%s: body is %s", c.name, u.ContentType)
		}
	}
}

func TestValidRecordsAreStoredBesideInvalidOnes(t *testing.T) {
	edit := func(old, fresh string) string { return strings.Replace(closedRecord, old, fresh, 1) }
	bad := []string{
		`7`, `{}`, edit(`"tcp"`, `"icmp"`), edit(`"100.64.12.9"`, `"fd00::1"`), edit(`50122`, `70000`), edit(`"rx_packets":12,`, ``),
		edit(`8120`, `-1`), edit(`8120`, `9223372036854775808`), edit(`"last_packet":"2026-09-21T13:35:09Z",`, ``),
		edit(`"flow_end":"2026-09-21T13:35:10Z",`, ``), edit(`"2026-09-21T13:35:10Z"`, `"2026-09-20T13:35:10Z"`),
		edit(`"src_ip":"198.51.100.20",`, ``), edit(`"dst_port":49801,`, ``), edit(`git`, strings.Repeat("x", 300)),
		edit(`"outers":[`, `"outers":[`+strings.Repeat(`{"dst_ip":"::1","dst_port":1,"path_activated_at":"2026-09-21T13:35:10Z"},`, maxOuters)),
	}
	body := `{"flow_logs":[` + strings.Join(bad, ",") + `,` + openRecord + `]}`
	u := Ingest{Secret: key(7)}.Accept(ingestHeader(t, true, key(7)), []byte(body), start)
	if u.Status != 422 || len(u.Logs) != 1 || u.Account != account1 {
		t.Fatalf("answer is %d with %d logs: %s", u.Status, len(u.Logs), u.Body)
	}
	var problem struct {
		Errors map[string][]string `json:"validation_errors"`
	}
	if err := json.Unmarshal(u.Body, &problem); err != nil || len(problem.Errors) != len(bad) {
		t.Fatalf("problem is %s", u.Body)
	}
	for i := range bad {
		if len(problem.Errors[fmt.Sprint(i)]) != 1 {
			t.Errorf("nothing is said about record %d", i)
		}
	}
}

// A body of millions of tiny records is given up at the first one too many.
func TestUploadOfMillionsOfRecordsIsGivenUpEarly(t *testing.T) {
	body := []byte(`{"flow_logs":[` + strings.Repeat("1,", MaxIngestBody/2-20) + `1]}`)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if _, err := splitRecords(body); err == nil {
		t.Fatal("accepted")
	}
	runtime.ReadMemStats(&after)
	if allocated, most := after.TotalAlloc-before.TotalAlloc, uint64(4<<20); allocated > most {
		t.Errorf("%d bytes are allocated, want %d at most", allocated, most)
	}
}
