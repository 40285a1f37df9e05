package tunnel

import (
	"context"
	"net/http"
	"time"
)

// reply is the answer to a request: either whole, as it's to be passed on, until
// the next read on its lane, or resp, whose body is to be read.
type reply struct {
	whole []byte
	resp  *http.Response
}

// exchange sends the request on and returns the answer, with the lane on which its
// body comes. A connection that the proxy has closed meanwhile is no reason to give
// up.
func (v *ride) exchange(now *generation) (*lane, reply, error) {
	l := now.lanes.spare()
	for again := false; ; again = true {
		if l == nil {
			var err error
			if l, err = v.open(now); err != nil {
				return nil, reply{}, err
			}
			if v.watch.gone {
				now.lanes.put(l)
				return nil, reply{}, context.Canceled
			}
		}
		began := time.Now()
		v.lane = l
		l.expect(began)
		got, err := v.ask(l)
		if err == nil {
			return l, got, nil
		}
		v.abandon()
		if !l.used || again || v.heard || v.watch.gone || time.Since(began) > recovery {
			return nil, reply{}, err
		}
		now.lanes.drop() // the others have probably ended as well
		l = nil
	}
}

// abandon gives up the lane that carries a request, if one does.
func (v *ride) abandon() {
	v.settle()
	if v.lane != nil {
		v.lane.close()
		v.lane = nil
	}
}

// open waits for a lane for as long as the client does.
func (v *ride) open(now *generation) (*lane, error) {
	ctx, cancel := context.WithCancel(v.ctx)
	defer cancel()
	v.attend(cancel)
	defer v.settle()
	return now.lanes.open(ctx)
}

// ask sends the request and reads the head of the answer. While that takes long,
// it's watched whether the client is still there.
func (v *ride) ask(l *lane) (reply, error) {
	v.asked = true
	if _, err := l.conn.Write(v.sent.Bytes()); err != nil {
		return reply{}, err
	}
	_, err := l.in.Peek(1)
	if isDeadline(err) {
		v.attendTo(l)
		_, err = l.in.Peek(1)
	}
	if err != nil {
		return reply{}, err
	}
	v.heard = true
	if whole := l.wholeAnswer(); whole != nil && !v.ends() {
		return reply{whole: whole}, nil
	}
	resp, err := v.hear(l)
	return reply{resp: resp}, err
}

// hear reads the head of the answer, of which something has come.
func (v *ride) hear(l *lane) (*http.Response, error) {
	for {
		if !l.hasHead() {
			v.attendTo(l)
		}
		resp, err := http.ReadResponse(l.in, v.request)
		if err != nil {
			return nil, err
		}
		if resp.StatusCode < http.StatusOK && resp.StatusCode != http.StatusSwitchingProtocols {
			if err := v.inform(resp); err != nil {
				v.settle()
				v.watch.gone = true
				return nil, err
			}
			continue
		}
		l.unbounded()
		if !l.hasBody(resp) {
			v.attendTo(l)
		}
		return resp, nil
	}
}

// attendTo is attend while an answer is awaited on a lane, however long that
// takes.
func (v *ride) attendTo(l *lane) {
	l.patient()
	v.attend(l.close)
}
