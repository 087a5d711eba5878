package fuzz

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"

	"github.com/firelane/firelane/internal/uapi"
)

// FuzzUAPI feeds the configuration socket arbitrary text: a request is refused with an error
// that stays short and on one line, or means the same when it is written and read again; and
// what follows a request in the stream is never lost.
func FuzzUAPI(f *testing.F) {
	key := strings.Repeat("0123456789abcdef", 4)
	for _, seed := range []string{
		"get=1\n\n",
		"set=1\n\nget=1\n\n",
		"set=1\nprivate_key=" + key + "\nlisten_port=51820\nfwmark=0\nreplace_peers=true\n\n",
		"set=1\npublic_key=" + key + "\nremove=true\nupdate_only=true\n\n",
		"set=1\npublic_key=" + key + "\npreshared_key=" + key + "\nendpoint=[fe80::1%eth0]:51820\n" +
			"persistent_keepalive_interval=25\nreplace_allowed_ips=true\nallowed_ip=10.0.0.0/8\nallowed_ip=-::ffff:10.0.0.0/104\nprotocol_version=1\n\n",
		"set=1\n" + strings.Repeat("x", 5000) + "\n\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		r := bufio.NewReader(bytes.NewReader(append(text, "\n\nget=1\n\n"...)))
		var last uapi.Request
		for {
			req, err := uapi.ReadRequest(r)
			var syntax *uapi.SyntaxError
			if errors.Is(err, io.EOF) {
				break
			}
			if errors.As(err, &syntax) {
				checkReason(t, syntax.Reason)
				last = uapi.Request{}
				continue
			}
			if err != nil {
				t.Fatalf("a stream in memory gives %v", err)
			}
			checkRoundTrip(t, req)
			last = req
		}
		if last.Op != uapi.Get {
			t.Fatalf("the last request was read as %+v", last)
		}
	})
}

func checkReason(t *testing.T, reason string) {
	const long = 512
	if len(reason) > long || strings.ContainsAny(reason, "\n\r\x1b") {
		t.Fatalf("bad reason %q", reason)
	}
}

func checkRoundTrip(t *testing.T, req uapi.Request) {
	var b bytes.Buffer
	if err := uapi.WriteRequest(&b, req); err != nil {
		t.Fatal(err)
	}
	again, err := uapi.ReadRequest(bufio.NewReader(&b))
	if err != nil || !reflect.DeepEqual(req, again) {
		t.Fatalf("written and read again: %v\n%+v\n%+v", err, req, again)
	}
}
