// Every endpoint of tests/kit/interop.py: with a certificate over TLS, HTTP/2 and 1.1; without one in plain HTTP/1.1,
// as the backend of the servers that cannot count a body or send it back themselves.
// node interop_node.cjs PORT FOLDER [CERTIFICATE KEY]
'use strict';
const crypto = require('node:crypto');
const fs = require('node:fs');
const http = require('node:http');
const http2 = require('node:http2');

const [port, folder, certificate, key] = process.argv.slice(2);
const small = fs.readFileSync(`${folder}/small`);
const big = fs.readFileSync(`${folder}/big`);

function send(response, status, body, headers = {}) {
  response.writeHead(status, { 'content-length': body.length, ...headers });
  response.end(body);
}

const endpoints = {
  '/small': (request, response) => send(response, 200, small),
  '/big': (request, response) => send(response, 200, big),
  '/upload': (request, response) => {
    const hash = crypto.createHash('sha256');
    let bytes = 0;
    request.on('data', (chunk) => {
      hash.update(chunk);
      bytes += chunk.length;
    });
    request.on('end', () => send(response, 200, JSON.stringify({ bytes, sha256: hash.digest('hex') })));
  },
  '/echo': (request, response) => {
    const chunks = [];
    request.on('data', (chunk) => chunks.push(chunk));
    request.on('end', () => send(response, 200, Buffer.concat(chunks)));
  },
  '/echo-stream': (request, response) => {
    response.writeHead(200);
    response.flushHeaders?.(); // before the first byte of the body has come
    request.pipe(response);
  },
  '/early413': (request, response) => {
    if (request.httpVersionMajor === 2) {
      // "Enough": the answer is complete, the rest of the body is not wanted.
      response.on('finish', () => request.stream.close(http2.constants.NGHTTP2_NO_ERROR));
      send(response, 413, 'too large');
    } else {
      send(response, 413, 'too large', { connection: 'close' });
    }
  },
  '/trailers': (request, response) => {
    response.writeHead(200, { trailer: 'x-checksum' });
    response.write(small);
    response.addTrailers({ 'x-checksum': '42' });
    response.end();
  },
  '/hints': (request, response) => {
    response.writeEarlyHints({ link: '</style.css>; rel=preload; as=style' });
    setTimeout(() => send(response, 200, small), 20);
  },
};

function answer(request, response) {
  const endpoint = endpoints[request.url];
  if (endpoint) endpoint(request, response);
  else send(response, 404, '');
}

if (certificate) {
  const files = { cert: fs.readFileSync(certificate), key: fs.readFileSync(key) };
  const sessions = new Set();
  // What was to be written to a stream that is reset stays counted as the session's memory (10 MB at most, by default):
  // further streams would be refused.
  http2
    .createSecureServer({ ...files, allowHTTP1: true, maxSessionMemory: 10_000 }, answer)
    .on('session', (session) => {
      sessions.add(session);
      session.on('close', () => sessions.delete(session));
    })
    .listen(port, '127.0.0.1');
  // A reload, as the others do it: GOAWAY on every connection, and what runs on it goes on to its end.
  process.on('SIGHUP', () => sessions.forEach((session) => session.close()));
} else {
  http.createServer({ requestTimeout: 0 }, answer).listen(port, '127.0.0.1');
}
