import type { QrCode } from "@0k-sync/client";

const SVG = "http://www.w3.org/2000/svg";
/** Empty modules around the code: scanners need four. */
const BORDER = 4;

/** A QR code, dark on white whatever the page's colours: scanners are used to that. */
export function drawQrCode({ size, path }: QrCode, label: string): SVGSVGElement {
  const side = String(size + 2 * BORDER);
  const svg = make("svg", {
    viewBox: `${-BORDER} ${-BORDER} ${side} ${side}`,
    role: "img",
    "aria-label": label,
    class: "qr",
    "shape-rendering": "crispEdges",
  });
  svg.append(
    make("rect", { x: String(-BORDER), y: String(-BORDER), width: side, height: side, fill: "#fff" }),
    make("path", { d: path, fill: "#0b1720" }),
  );
  return svg;
}

function make<Tag extends keyof SVGElementTagNameMap>(
  tag: Tag,
  attributes: Readonly<Record<string, string>>,
): SVGElementTagNameMap[Tag] {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}
