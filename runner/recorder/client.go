package recorder

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/http/httptrace"
	"sync/atomic"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

const (
	// idlePing is after how much silence a connection is asked whether it lives, pingLimit how long the answer may
	// take. client-go's own 30 s and 15 s would hide a whole outage.
	idlePing  = 500 * time.Millisecond
	pingLimit = 2 * time.Second
	// connectLimit bounds dialling and the TLS handshake each.
	connectLimit = time.Second
)

// client reaches the API server without rate limit, by a transport whose connections tell when they last heard of it.
type client struct {
	clock     *Clock
	transport *http.Transport
	api       kubernetes.Interface
	dynamic   dynamic.Interface
}

func newClient(given *rest.Config, clock *Clock) (*client, error) {
	config := rest.CopyConfig(given)
	config.QPS = -1
	config.RateLimiter = nil
	config.Timeout = 0
	config.UserAgent = "rebound-recorder"
	tlsConfig, err := rest.TLSConfigFor(config)
	if err != nil {
		return nil, fmt.Errorf("TLS of the API server: %w", err)
	}
	c := &client{clock: clock}
	dialer := &net.Dialer{Timeout: connectLimit, KeepAlive: 15 * time.Second}
	dial := config.Dial
	if dial == nil {
		dial = dialer.DialContext
	}
	c.transport = &http.Transport{
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := dial(ctx, network, address)
			if err != nil {
				return nil, err
			}
			lc := &liveConn{Conn: conn, clock: clock}
			lc.heard.Store(int64(clock.Now()))
			return lc, nil
		},
		TLSClientConfig:     tlsConfig,
		TLSHandshakeTimeout: 2 * connectLimit,
		ForceAttemptHTTP2:   true,
		HTTP2:               &http.HTTP2Config{SendPingTimeout: idlePing, PingTimeout: pingLimit},
		MaxIdleConnsPerHost: 16,
		IdleConnTimeout:     time.Minute,
		Proxy:               http.ProxyFromEnvironment,
	}
	if config.Proxy != nil {
		c.transport.Proxy = config.Proxy
	}
	wrapped, err := rest.HTTPWrappersForConfig(config, c.transport)
	if err != nil {
		return nil, fmt.Errorf("transport to the API server: %w", err)
	}
	httpClient := &http.Client{Transport: wrapped}
	if c.dynamic, err = dynamic.NewForConfigAndClient(config, httpClient); err != nil {
		return nil, fmt.Errorf("dynamic client: %w", err)
	}
	config.ContentType = runtime.ContentTypeProtobuf
	config.AcceptContentTypes = runtime.ContentTypeProtobuf + "," + runtime.ContentTypeJSON
	if c.api, err = kubernetes.NewForConfigAndClient(config, httpClient); err != nil {
		return nil, fmt.Errorf("client: %w", err)
	}
	return c, nil
}

func (c *client) close() { c.transport.CloseIdleConnections() }

// liveConn remembers when it last received a byte: until then the other side was surely alive and reachable.
type liveConn struct {
	net.Conn
	clock *Clock
	heard atomic.Int64
}

func (c *liveConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if n > 0 {
		c.heard.Store(int64(c.clock.Now()))
	}
	return n, err
}

// life follows the connection that a request was sent on.
type life struct {
	conn atomic.Pointer[liveConn]
}

// follow returns a context for one request; the last proof of its connection's life can be asked from then on.
func (l *life) follow(ctx context.Context) context.Context {
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(info httptrace.GotConnInfo) {
		conn := info.Conn
		if t, ok := conn.(*tls.Conn); ok {
			conn = t.NetConn()
		}
		if lc, ok := conn.(*liveConn); ok {
			l.conn.Store(lc)
		}
	}})
}

// last is the offset of the last proof of life, or otherwise where there was none.
func (l *life) last(otherwise time.Duration) time.Duration {
	if lc := l.conn.Load(); lc != nil {
		return max(otherwise, time.Duration(lc.heard.Load()))
	}
	return otherwise
}
