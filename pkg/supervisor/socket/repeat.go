package socket

import (
	"maps"
	"time"
)

// What is done again and again, and mended as often, is told now and then: a process
// that ruins its socket in a loop shall not fill the log.
const (
	quietFor   = 10 * time.Second
	maxRepeats = 1000 // that are counted apart
)

// repeats says what was told lately.
type repeats map[repeated]*repeat

type repeated struct{ name, address, what string }

type repeat struct {
	told  time.Time
	again int // since then
}

// due says whether a finding is to be told now, and counts it if not. What names a
// dead socket, or cannot be mended, is told each time.
func (r repeats) due(name string, f *Finding, now time.Time) bool {
	if f.Dead != 0 || f.Err != nil {
		return true
	}
	id := repeated{name, f.Address, f.What}
	last := r[id]
	if last != nil && now.Sub(last.told) < quietFor {
		last.again++
		return false
	}
	if last != nil {
		f.Again = last.again
	}
	r.forget(now)
	r[id] = &repeat{told: now}
	return true
}

// forget makes room.
func (r repeats) forget(now time.Time) {
	if len(r) < maxRepeats {
		return
	}
	maps.DeleteFunc(r, func(_ repeated, x *repeat) bool { return now.Sub(x.told) >= quietFor })
	if len(r) >= maxRepeats {
		clear(r)
	}
}
