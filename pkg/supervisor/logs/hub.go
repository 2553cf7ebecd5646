package logs

// maxRecent is how far, in bytes, one who follows may be behind.
const maxRecent = 1 << 20

// overhead is what a chunk costs beside its text.
const overhead = 128

func (c chunk) size() int { return len(c.text) + overhead }

// A hub keeps the latest chunks while somebody follows, once for all of them.
// Who is slower than it reaches back learns how many lines he has lost. It is
// guarded by the sink's mu.
type hub struct {
	followers int
	recent    []passed
	bytes     int
	now       place         // of the next chunk
	more      chan struct{} // closed when there is more; nil: nobody waits
}

type passed struct {
	chunk
	at place
}

// A place is how many chunks and lines passed before it, while anybody followed.
type place struct{ chunks, lines uint64 }

func (h *hub) join() place {
	h.followers++
	return h.now
}

func (h *hub) part() {
	h.followers--
	if h.followers == 0 {
		h.recent, h.bytes = nil, 0
	}
}

func (h *hub) add(c chunk) {
	if h.followers == 0 {
		return
	}
	h.recent = append(h.recent, passed{c, h.now})
	h.bytes += c.size()
	h.now = place{h.now.chunks + 1, h.now.lines + uint64(c.lines)}
	for h.bytes > maxRecent {
		h.bytes -= h.recent[0].size()
		h.recent[0] = passed{}
		h.recent = h.recent[1:]
	}
	if h.more != nil {
		close(h.more)
		h.more = nil
	}
}

// next is the chunk at a place, or the first that is still there after it, and
// how many lines are lost in between.
func (h *hub) next(p *place) (c chunk, lost uint64, ok bool) {
	if p.chunks == h.now.chunks {
		return chunk{}, 0, false
	}
	first := h.recent[0].at
	if p.chunks < first.chunks {
		lost = first.lines - p.lines
		*p = first
	}
	c = h.recent[p.chunks-first.chunks].chunk
	*p = place{p.chunks + 1, p.lines + uint64(c.lines)}
	return c, lost, true
}

// wait returns a channel that is closed when there is more.
func (h *hub) wait() <-chan struct{} {
	if h.more == nil {
		h.more = make(chan struct{})
	}
	return h.more
}
