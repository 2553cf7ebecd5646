package logs

import (
	"errors"
	"io/fs"
	"os"
	"time"
)

// retryAfter is the time between two tries to open what cannot be opened.
const retryAfter = time.Second

// ready says whether there is a log file to write to, and opens it if not. It
// sees when the file was removed or truncated by somebody else.
func (k *keeper) ready() bool {
	if k.dir == nil || !k.spec.File || k.closed {
		return false
	}
	if k.log != nil {
		k.look()
	}
	if (k.log == nil || k.idx == nil) && !k.now().Before(k.reopenAt) {
		k.reopenAt = k.now().Add(retryAfter)
		k.open()
	}
	return k.log != nil
}

// look compares the file with what it should be.
func (k *keeper) look() {
	st, err := stat(int(k.log.Fd()))
	switch {
	case err != nil || st.Nlink == 0:
		k.shut()
		k.reopenAt = time.Time{}
	case st.Size != k.size: // truncated, or somebody else has written to it
		shorter := st.Size < k.size
		k.measure()
		k.last = entry{}
		if shorter {
			k.resetIndex()
		}
	}
}

// open opens the log and its index, and makes what is missing, the directory
// included.
func (k *keeper) open() {
	err := k.openLog()
	if errors.Is(err, fs.ErrNotExist) {
		if err = k.dir.walk(); err == nil {
			err = k.openLog()
		}
	}
	if err == nil {
		err = k.openIndex()
	}
	k.err = err
	k.recall()
}

func (k *keeper) openLog() (err error) {
	if k.log != nil {
		return nil
	}
	k.append = false
	k.log, err = k.dir.open(k.name, os.O_RDWR|os.O_CREATE)
	if errors.Is(err, fs.ErrPermission) { // chattr +a lets nobody write elsewhere than at the end
		k.append = true
		k.log, err = k.dir.open(k.name, os.O_RDWR|os.O_APPEND|os.O_CREATE)
	}
	if err != nil {
		k.log = nil
		return err
	}
	k.setPlain(k.append)
	if err = k.measure(); err == nil && k.resuming && k.takeUp() {
		err = k.measure()
	}
	if err != nil {
		k.shut()
		return k.fault("read", k.name, err)
	}
	return nil
}

// measure finds out where the log ends, and whether in the middle of a line.
func (k *keeper) measure() error {
	st, err := stat(int(k.log.Fd()))
	if err != nil {
		return err
	}
	k.size, k.from, k.midline, k.heir = st.Size, nil, false, Meta{}
	if k.size > 0 {
		var b [1]byte
		_, err = k.log.ReadAt(b[:], k.size-1)
		k.midline = b[0] != '\n'
	}
	return err
}

// openIndex goes on with an index that fits its log, and begins a new one else.
func (k *keeper) openIndex() (err error) {
	if k.idx != nil {
		return nil
	}
	k.last = entry{}
	if k.idx, err = k.dir.open(k.name+".idx", os.O_RDWR|os.O_CREATE); err != nil {
		k.idx = nil
		return err
	}
	if k.idxSize = k.fits(); k.idxSize == 0 {
		return k.resetIndex()
	}
	return nil
}

// fits is the length of an index that tells of this log; 0: it does not.
func (k *keeper) fits() int64 {
	st, err := stat(int(k.idx.Fd()))
	size := st.Size - st.Size%recordSize
	if err != nil || size < recordSize || k.size == 0 {
		return 0
	}
	var b [recordSize]byte
	if _, err := k.idx.ReadAt(b[:], 0); err != nil || string(b[:]) != indexHeader {
		return 0
	}
	if size == recordSize {
		return size
	}
	for size > recordSize {
		if _, err := k.idx.ReadAt(b[:], size-recordSize); err != nil {
			return 0
		}
		e, ok := decodeEntry(b[:])
		switch {
		case ok && e.offset <= k.size:
			return k.shorten(size)
		case !ok || e.offset > k.size+maxPlan: // not of what was about to be written
			return 0
		}
		size -= recordSize
	}
	return k.shorten(size)
}

// shorten cuts off records of text that was never written.
func (k *keeper) shorten(size int64) int64 {
	if k.idx.Truncate(size) != nil {
		return 0
	}
	return size
}

func (k *keeper) resetIndex() error {
	if k.idx == nil {
		return nil
	}
	k.last, k.idxSize = entry{}, 0
	err := k.idx.Truncate(0)
	if err == nil {
		_, err = k.idx.WriteAt([]byte(indexHeader), 0)
	}
	if err != nil {
		k.idx.Close()
		k.idx = nil
		return k.fault("write", k.name+".idx", err)
	}
	k.idxSize = recordSize
	return nil
}

// shut closes the files. What was gathered is not written.
func (k *keeper) shut() {
	if k.log != nil {
		k.log.Close()
	}
	if k.idx != nil {
		k.idx.Close()
	}
	k.log, k.idx, k.from, k.last = nil, nil, nil, entry{}
	k.heir, k.until = Meta{}, time.Time{}
}
