"""The service of somebody else: rates of currencies, and an inbox for webhooks. Nothing but the standard library."""

import http.server
import json
import sys

EUROS = {"USD": 0.92, "CHF": 1.07, "GBP": 1.17}
seen = []


class Service(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        currency = self.path.rpartition("/")[2]
        seen.append(currency)
        if currency not in EUROS:
            self.answer(404, {"error": f"no rate for {currency}"})
        elif currency == "GBP" and seen.count("GBP") == 1:
            self.answer(503, {"error": "come back later"})  # as services do
        else:
            self.answer(200, {"currency": currency, "euros": EUROS[currency]})

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        print("inbox:", body.decode(), flush=True)
        self.answer(202, {"received": True})

    def answer(self, status, content):
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1]) if len(sys.argv) > 1 else 8099), Service)
print(f"service at http://127.0.0.1:{server.server_port}", flush=True)
server.serve_forever()
