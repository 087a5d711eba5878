package fastpath

import (
	"time"

	"github.com/firelane/firelane/batch"
	"github.com/firelane/firelane/fib"
)

// sender is the worker as encap's way out: trains go to the socket of their family.
type sender Worker

// Send sends trains, in runs of one family.
func (s *sender) Send(trains []batch.Train) {
	for from := 0; from < len(trains); {
		is4 := trains[from].Remote.Addr().Is4()
		to := from + 1
		for to < len(trains) && trains[to].Remote.Addr().Is4() == is4 {
			to++
		}
		socket := s.c.Socket6
		if is4 {
			socket = s.c.Socket4
		}
		s.sendTo(socket, trains[from:to])
		from = to
	}
}

// sendTo sends trains of one family; a full send buffer is waited for, not for long.
func (s *sender) sendTo(socket Socket, trains []batch.Train) {
	if socket == nil {
		s.lose(fib.DropSendRefused, trains)
		return
	}
	for waited := false; len(trains) > 0; {
		n, err := socket.Send(trains)
		trains = trains[n:]
		switch {
		case len(trains) == 0:
			return
		case err != nil:
			s.lose(fib.DropSendRefused, trains)
			return
		case n > 0:
			waited = false
		case waited:
			s.lose(fib.DropSendFull, trains)
			return
		default:
			socket.WaitWritable(sendPatience)
			waited = true
		}
	}
}

func (s *sender) lose(v fib.Verdict, trains []batch.Train) {
	for i := range trains {
		s.counts.drop(v, trains[i].Len())
	}
}

// sendPatience is how long a full send buffer without any progress is waited for before the rest
// of the batch is dropped: the time in which a 10 Gbit/s link drains 1 MiB.
const sendPatience = time.Millisecond
