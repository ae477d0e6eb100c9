/** The report's styles: light, dark, paper and phone. Colours are those of the picture. */
export const REPORT_STYLE = `
:root{color-scheme:light dark;--paper:#fff;--soft:#f3f5f7;--line:#ccd3da;--ink:#1b2733;--dim:#4d5965;--link:#005a8c;
--bad:#9c3d00;--bad-soft:#fdeee3;--bad-edge:#d55e00;--good:#00624a;--good-soft:#e6f4ef;--good-edge:#007a59;
--virtual:#5c4a00;--virtual-soft:#fbf3cf;--virtual-edge:#8f8700}
@media screen and (prefers-color-scheme:dark){:root{--paper:#14181d;--soft:#1c2229;--line:#3b4650;--ink:#e6edf3;
--dim:#a7b4c0;--link:#9ad2f2;--bad:#ff9d5c;--bad-soft:#33201a;--bad-edge:#ff8a3d;--good:#7fd6bd;--good-soft:#14302a;
--good-edge:#66c5ab;--virtual:#f4ec84;--virtual-soft:#2c2911;--virtual-edge:#8f8700}}
*{box-sizing:border-box}
html{scroll-behavior:auto}
body{margin:0 auto;padding:1.5rem clamp(1rem,3vw,2.5rem) 3rem;max-width:78rem;background:var(--paper);color:var(--ink);
font:1rem/1.5 system-ui,"Segoe UI",Roboto,"DejaVu Sans",sans-serif;overflow-wrap:anywhere}
h1{margin:0 0 .75rem;font-size:1.75rem;line-height:1.2}
h2{margin:2.5rem 0 .75rem;padding-bottom:.25rem;border-bottom:2px solid var(--line);font-size:1.3rem}
h3{margin:1.5rem 0 .25rem;font-size:1.05rem}
p{margin:.5rem 0}
a{color:var(--link)}
code,pre{font-family:ui-monospace,"DejaVu Sans Mono",Menlo,Consolas,monospace;font-size:.9em}
pre{margin:.5rem 0;padding:.75rem 1rem;border:1px solid var(--line);border-radius:6px;background:var(--soft);
white-space:pre-wrap}
ul,ol{margin:.5rem 0;padding-left:1.25rem}
.dim{color:var(--dim)}
.bad-text{color:var(--bad)}
.verdict,.virtual{padding:.6rem .9rem;border-left:6px solid;border-radius:4px}
.verdict{font-size:1.1rem}
.bad{border-color:var(--bad-edge);background:var(--bad-soft);color:var(--bad)}
.good{border-color:var(--good-edge);background:var(--good-soft);color:var(--good)}
.virtual{border-color:var(--virtual-edge);background:var(--virtual-soft);color:var(--virtual)}
nav ul{display:flex;flex-wrap:wrap;gap:.25rem 1.25rem;padding:0;list-style:none}
nav a{display:inline-block;padding:.15rem 0}
.findings{padding:0;list-style:none}
.findings li{display:flex;gap:.75rem;padding:.75rem 0;border-top:1px solid var(--line)}
.findings li:first-child{border-top:0}
.findings li:target{background:var(--bad-soft)}
.findings p{margin:0}
.findings .action{margin-top:.25rem;color:var(--dim)}
.kind{margin-right:.25rem;padding:.05rem .5rem;border:1px solid var(--line);border-radius:1rem;background:var(--soft);
font-size:.85rem;white-space:nowrap}
.label{font-weight:600}
.badge{display:inline-flex;flex:none;align-items:center;justify-content:center;min-width:1.6rem;height:1.6rem;
margin-right:.25rem;padding:0 .4rem;border-radius:1rem;background:#ff8a3d;color:#000;font-size:.85rem;font-weight:700;
text-decoration:none}
.picture{overflow-x:auto;border:1px solid var(--line);border-radius:8px}
.picture svg{display:block;width:var(--width);min-width:calc(var(--width)*.75);max-width:100%;height:auto;margin:0 auto}
.picture>div{width:fit-content;min-width:100%}
.sets{display:grid;grid-template-columns:repeat(auto-fit,minmax(15rem,1fr));gap:1rem;margin-bottom:1rem}
.set{padding:.25rem 1rem .5rem;border:1px solid var(--line);border-radius:8px;background:var(--soft)}
.set h3{margin-top:.5rem}
table{width:100%;margin:.75rem 0 1rem;border-collapse:collapse;font-size:.95rem}
caption{padding:.25rem 0;color:var(--dim);text-align:left}
th,td{padding:.35rem .75rem .35rem 0;border-top:1px solid var(--line);text-align:left;vertical-align:top}
thead th{overflow-wrap:normal;border-top:0;border-bottom:2px solid var(--line);color:var(--dim);font-size:.85rem}
tbody th{font-weight:600}
.registers th{overflow-wrap:normal}
time,.links tbody th,.registers code{white-space:nowrap}
.state{font-weight:600}
.state-down,.state-unknown{font-weight:400;font-style:italic}
.gpus{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,32rem),1fr));gap:0 2.5rem}
dl{margin:.5rem 0}
dl div{display:grid;grid-template-columns:11rem 1fr;gap:0 1rem;padding:.35rem 0;border-top:1px solid var(--line)}
dt{color:var(--dim)}
dd{margin:0}
@media screen{.gpu{content-visibility:auto;contain-intrinsic-size:auto 30rem}}
@media screen and (max-width:40rem){
body{font-size:.95rem}
dl div{grid-template-columns:1fr}
.stacked thead{position:absolute;clip-path:inset(50%);width:1px;height:1px;overflow:hidden}
.stacked tr{display:block;padding:.5rem 0;border-top:1px solid var(--line)}
.stacked th,.stacked td{display:block;padding:.1rem 0;border:0}
.stacked td::before{content:attr(data-label) ": ";color:var(--dim)}
.links{font-size:.85rem}
}
@media print{
@page{margin:14mm}
body{max-width:none;padding:0;font-size:10pt}
nav{display:none}
a{color:inherit}
.picture{overflow:visible;border:0}
.picture svg{min-width:0;max-width:100%;max-height:90vh}
.gpus{display:block}
h2,h3,caption{break-after:avoid}
tr,.findings li,.set{break-inside:avoid}
.verdict,.virtual,.badge{print-color-adjust:exact}
}
`;
