import { S3Error } from './s3-error.ts';

/** An element with its text and children; attributes (only xmlns is ever sent) are dropped. */
export interface XmlElement {
  readonly name: string;
  readonly text: string;
  readonly children: readonly XmlElement[];
}

/** What `writeXml` takes: text, number, a list of children, or nothing. */
export type XmlContent = string | number | boolean | readonly XmlNode[];
export type XmlNode = readonly [name: string, content: XmlContent] | undefined;

const S3_NAMESPACE = 'http://s3.amazonaws.com/doc/2006-03-01/';
const MAX_DEPTH = 8;

export function writeXml(root: string, nodes: readonly XmlNode[], namespace = true): string {
  const opening = namespace ? `${root} xmlns="${S3_NAMESPACE}"` : root;
  return `<?xml version="1.0" encoding="UTF-8"?>\n<${opening}>${writeNodes(nodes)}</${root}>`;
}

function writeNodes(nodes: readonly XmlNode[]): string {
  let out = '';
  for (const node of nodes) {
    if (node === undefined) continue;
    const [name, content] = node;
    out += `<${name}>${typeof content === 'object' ? writeNodes(content) : escapeXml(String(content))}</${name}>`;
  }
  return out;
}

/** Control characters have no form in XML 1.0; clients that use them in keys ask for encoding-type=url. */
export function escapeXml(value: string): string {
  return value.replace(/[<>&"'\r\u0000-\u0008\u000b\u000c\u000e-\u001f\ufffe\uffff]/g, (character) => {
    switch (character) {
      case '<':
        return '&lt;';
      case '>':
        return '&gt;';
      case '&':
        return '&amp;';
      case '"':
        return '&quot;';
      case "'":
        return '&apos;';
      case '\r':
        return '&#13;';
      default:
        return '\ufffd';
    }
  });
}

/**
 * Parses the small documents that S3 clients send: elements, text, character references, comments; no DTD, no CDATA. Throws MalformedXML.
 */
export function parseXml(document: string): XmlElement {
  const tokens =
    /<!--[\s\S]*?-->|<\?[\s\S]*?\?>|<(\/?)([A-Za-z_][\w.:-]*)((?:\s+[\w.:-]+\s*=\s*(?:"[^"<]*"|'[^'<]*'))*)\s*(\/?)>|([^<]+)/gy;
  const root: OpenElement = { name: '', text: '', children: [] };
  const stack: OpenElement[] = [root];
  let at = document.startsWith('\ufeff') ? 1 : 0;
  while (at < document.length) {
    tokens.lastIndex = at;
    const token = tokens.exec(document);
    if (token === null) throw malformed();
    at = tokens.lastIndex;
    const [, closing, name, , selfClosing, text] = token;
    const top = stack.at(-1);
    if (top === undefined) throw malformed();
    if (text !== undefined) {
      if (stack.length === 1 && text.trim() !== '') throw malformed();
      top.text += unescapeXml(text);
    } else if (name !== undefined) {
      if (closing === '/') {
        if (top.name !== name || stack.length === 1) throw malformed();
        stack.pop();
      } else {
        const element: OpenElement = { name, text: '', children: [] };
        top.children.push(element);
        if (selfClosing !== '/') stack.push(element);
        if (stack.length > MAX_DEPTH) throw malformed();
      }
    }
  }
  const [only] = root.children;
  if (stack.length !== 1 || root.children.length !== 1 || only === undefined) throw malformed();
  return only;
}

interface OpenElement {
  name: string;
  text: string;
  children: OpenElement[];
}

function unescapeXml(text: string): string {
  return text.replace(/&([^;&]{0,12};?)/g, (_, reference: string) => {
    const named = { 'lt;': '<', 'gt;': '>', 'amp;': '&', 'quot;': '"', 'apos;': "'" }[reference];
    if (named !== undefined) return named;
    const match = /^#(?:x([0-9a-fA-F]{1,6})|(\d{1,7}));$/.exec(reference);
    const point =
      match === null ? Number.NaN : Number.parseInt(match[1] ?? match[2] ?? '', match[1] === undefined ? 10 : 16);
    if (Number.isNaN(point) || point > 0x10ffff || (point >= 0xd800 && point <= 0xdfff)) throw malformed();
    return String.fromCodePoint(point);
  });
}

function malformed(): S3Error {
  return new S3Error('MalformedXML', 'The XML you provided was not well-formed.');
}

/** Text of the first child of that name. */
export function childText(element: XmlElement, name: string): string | undefined {
  return element.children.find((child) => child.name === name)?.text;
}
