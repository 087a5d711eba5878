package tun

// Twin returns another Queue over the same descriptor with call state and counters of its own, for
// a second goroutine that writes: the kernel orders the two. It must not read, and ends with q.
func (q *Queue) Twin() *Queue { return newQueue(q.fd, q.hdr != 0) }
