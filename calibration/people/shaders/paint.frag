// Colour and relief of one texel of somebody's head, from where it lies on the average head.
uniform sampler2D places, charts, areas, inner, scalps;
uniform vec3 seed; uniform float melanin, haemoglobin, blush, freckles, stubble, under_eye, oil, age, veins, crease;
uniform vec2 lip_tint;  // blood, melanin
uniform vec3 hair_colour, beard_colour, brow_colour, neck_colour; uniform vec2 brow_form;  // thickness, arch
uniform vec4 moles[8];  // x, y, radius, strength
uniform vec4 lipstick, shadow_powder; uniform vec2 powder;  // colour, strength; blusher, foundation
layout(location = 0) out vec4 colour_out; layout(location = 1) out vec4 form_out; layout(location = 2) out vec4 lips_out;

// Value noise of about +-1, at most; k picks the stream.
float grain(vec3 p, float f, float k) { return (value_noise(p * f + seed + k * vec3(17.3, 5.1, 9.7)) - .5) * 3.; }
float grain(vec3 p, vec3 f, float k) { return (value_noise(p * f + seed + k * vec3(17.3, 5.1, 9.7)) - .5) * 3.; }
float blob(vec3 p, vec3 centre, vec3 radius) { vec3 d = (p - centre) / radius; return exp(-dot(d, d)); }
float step3(float a, float b, float c, float x, float ya, float yb, float yc) {  // piecewise linear through three points
    return x < b ? mix(ya, yb, clamp((x - a) / (b - a), 0., 1.)) : mix(yb, yc, clamp((x - b) / (c - b), 0., 1.));
}
float brow_height(float u) {
    float arch = step3(0., .35, .68, u, 0., .6, 1.2);
    arch = u > .68 ? mix(1.2, .2, clamp((u - .68) / .32, 0., 1.)) : arch;
    float y = step3(0., .35, .68, u, 7.462, 7.497, 7.508);
    y = u > .68 ? mix(7.508, 7.44, clamp((u - .68) / .32, 0., 1.)) : y;
    return y + brow_form.y * arch;
}
// Two pigments absorb per channel. Much melanin absorbs more evenly: dark skin is brown, not orange.
vec3 pigmented(float m, float b) {
    vec3 absorbs = m * (vec3(.45, .93, 1.45) + m * vec3(.265, .165, .03)) + b * vec3(.07, .53, .50) * mix(1., .8, clamp(m - .6, 0., 1.));
    return vec3(.79, .675, .575) * exp(-absorbs);
}
// A furrow: a narrow valley wherever x is a whole number.
float furrow(float x, float narrow) { return pow(.5 + .5 * cos(6.28318 * x), narrow); }

void main() {
    ivec2 at = ivec2(gl_FragCoord.xy);
    vec3 p = texelFetch(places, at, 0).xyz, q = vec3(abs(p.x), p.yz);
    vec2 chart = texelFetch(charts, at, 0).xy;
    vec4 area = texture(areas, chart);
    float lip = smoothstep(.30, .62, area.r), lid = area.g, ear = area.b, face = area.a;
    float deep = smoothstep(.35, .75, texture(inner, chart).r), rim_lip = smoothstep(.02, .22, area.r) * (1. - smoothstep(.22, .5, area.r));
    float moist = smoothstep(6.70, 6.66, p.y) * smoothstep(6.58, 6.62, p.y) * lip;
    float cheek = blob(q, vec3(.42, 6.95, 1.2), vec3(.22, .2, .5)), nose = blob(q, vec3(.03, 6.98, 1.6), vec3(.15, .16, .28));
    float chin = blob(q, vec3(0, 6.33, 1.4), vec3(.2, .15, .4)), eyes = blob(q, vec3(.29, 7.3, 1.3), vec3(.24, .17, .4));
    float under = blob(q, vec3(.27, 7.19, 1.35), vec3(.15, .05, .3)), forehead = blob(q, vec3(0, 7.8, 1.3), vec3(.5, .3, .6));
    float wing = blob(q, vec3(.15, 6.9, 1.45), vec3(.05, .06, .12)), socket = blob(q, vec3(.19, 7.31, 1.34), vec3(.07, .08, .15));

    // Mottling at several scales: blood pools in patches, melanin in finer ones.
    float g1 = grain(p, 3., 1.) + .6 * grain(p, 6.5, 2.), g2 = grain(p, 15., 3.) + .7 * grain(p, 31., 4.);
    float g3 = grain(p, 62., 5.), g4 = grain(p, 128., 6.);
    float even = 1. / (1. + 1.6 * max(melanin - .4, 0.));  // the same spread of melanin shows more on dark skin
    float m = melanin * (1. + (.06 * g1 + .045 * g2 + .04 * g3) * even), b = haemoglobin * (1. + (.10 * g1 + .13 * g2 + .12 * g3 + .05 * g4) * mix(.5, 1., even));
    float flush = .55 * cheek + .75 * nose + .35 * chin + .5 * wing;
    b *= 1. + blush * flush * (1. + .35 * g2) + .7 * ear - .10 * forehead + powder.x * 1.2 * blob(q, vec3(.46, 7.0, 1.1), vec3(.18, .12, .5));
    m *= 1. + .10 * eyes + under_eye * under + .05 * forehead + .15 * lid + .16 * socket;
    b *= (1. + (.25 + .5 * under_eye) * under + .22 * eyes + .35 * socket) * (1. + .3 * lid);
    float covered = 1. - .65 * powder.y;
    // Fine veins on nose and cheeks of fair and of old skin.
    float ridge = 1. - abs(grain(p, vec3(26, 26, 26), 8.)) * 2.2;
    b += veins * smoothstep(.55, .95, ridge) * (nose + .7 * cheek) * (.4 + .6 * smoothstep(-.2, .5, g1)) * covered;
    float f1 = grain(p, 47., 9.) + .35 * grain(p, 95., 10.), f2 = grain(p, 78., 11.);
    float speckled = clamp(cheek * 1.1 + nose * .85 + .45 * forehead + .25 * chin + .12 * face, 0., 1.3);
    m += freckles * speckled * covered * (.62 * smoothstep(.50, .80, f1) + .40 * smoothstep(.42, .72, f2)) * (.85 + .3 * g1);
    float spotted = max(0., age - .4) * (.4 + cheek + forehead + blob(q, vec3(.55, 7.35, .8), vec3(.2, .4, .4)));
    m += spotted * face * covered * (.40 * smoothstep(.80, 1.1, grain(p, 9., 12.) + .30 * g2) + .35 * smoothstep(.75, 1., grain(p, 23., 13.) + .2 * g3)) / (1. + 4. * melanin * melanin);
    float bumps = 0.;
    for (int i = 0; i < 8; i++) {
        float d = length(p.xy - moles[i].xy) / max(moles[i].z, 1e-4), spot = exp(-d * d * d * d) * step(.9, p.z) * (1. - lip) * step(eyes, .45);
        m += moles[i].w * spot; bumps += spot * step(.7, moles[i].w);
    }
    // Lips: the edge is a pale line, the inside darker and redder; dark skin has paler lower lips.
    float up = grain(p, vec3(58, 9, 9), 14.), fine = grain(p, vec3(120, 16, 16), 15.);
    b = b * (1. + lip_tint.x * lip) + (.30 + .05 * up) * lip * (1. - .4 * smoothstep(.5, 1.1, melanin)) + .9 * deep + .35 * moist;
    m = m * (1. - .12 * lip) * (1. - .16 * moist * smoothstep(.5, 1., melanin)) + lip_tint.y * lip * smoothstep(6.80, 6.62, p.y) + (.10 + .16 * smoothstep(.5, 1.1, melanin)) * melanin * (1. - .6 * moist) * lip;
    m *= 1. - .06 * rim_lip;

    float ax = q.x, y = p.y;
    float jaw = smoothstep(6.78, 6.5, y - .38 * clamp(ax - .25, 0., 1.)) * smoothstep(.25, .6, p.z) * smoothstep(5.85, 6.2, y);
    float shaved = clamp(jaw + blob(q, vec3(.1, 6.80, 1.5), vec3(.17, .055, .3)), 0., 1.) * (1. - smoothstep(.1, .4, area.r));
    shaved *= (1. - .5 * blob(q, vec3(.2, 6.52, 1.45), vec3(.06, .05, .2))) * smoothstep(.72, .45, ax);
    // Shaved hair: a cool shade under the skin, and the cut ends as dots.
    float dots = smoothstep(.10, .62, grain(p, vec3(140, 108, 140), 16.)) * .75 + smoothstep(.2, .7, grain(p, 190., 17.)) * .5;
    float thick = stubble * shaved * (.75 + .35 * g1);
    b *= 1. - .35 * clamp(thick, 0., 1.);

    vec3 albedo = pigmented(max(m, .02), max(b, .05));
    albedo *= mix(vec3(1), vec3(.86, .93, 1.0), clamp(thick, 0., 1.));
    albedo = mix(albedo, hair_colour * .5 + .012, clamp(thick * dots * .95, 0., .75));
    // Powder evens the colour out.
    albedo = mix(albedo, pigmented(melanin, haemoglobin * 1.05) * (1. + .02 * g2), powder.y * .5 * face * (1. - lip));
    albedo = mix(albedo, lipstick.rgb * (1. + .10 * up + .06 * fine) * (1. - .25 * moist), lipstick.a * lip * (1. - deep));
    // Eyes: the crease over the lid and powder between it and the lashes.
    float lid_top = step3(.17, .29, .43, ax, 7.30, 7.347, 7.30), over = y - lid_top, along = smoothstep(.15, .22, ax) * smoothstep(.46, .37, ax);
    float front = along * step(1.0, p.z), fold = exp(-pow((over - .050 - .010 * crease) / .0075, 2.)) * front * (.35 + .65 * crease);
    albedo *= 1. - .20 * fold;
    albedo = mix(albedo, shadow_powder.rgb, shadow_powder.a * front * smoothstep(-.015, .01, over) * smoothstep(.13, .035, over));
    // Under the brow's strokes a soft band of its colour, under the hair the scalp's shade.
    float u = (ax - .085) / (.54 - .085), width = brow_form.x * mix(mix(.8, 1.05, clamp(u / .12, 0., 1.)), .3, clamp((u - .55) / .45, 0., 1.));
    float band = exp(-pow((y - brow_height(u)) / (width * 1.15), 2.)) * smoothstep(-.03, .14, u) * smoothstep(1.03, .8, u) * step(1., p.z);
    albedo = mix(albedo, brow_colour, band * (.24 + .10 * g3) );
    vec2 grown = texture(scalps, gl_FragCoord.xy / vec2(textureSize(places, 0))).rg;
    float scalp = grown.r * (1. - ear);
    albedo = mix(albedo, beard_colour * .8, grown.g * (1. - lip) * (.75 + .35 * dots));
    scalp *= 1. - .35 * (1. - scalp) * (.5 + grain(p, 70., 18.));
    albedo = mix(albedo, hair_colour * .55, scalp);
    albedo = mix(albedo, vec3(.11, .030, .027) * mix(1., .6, clamp(melanin - .5, 0., 1.)), deep);

    float nape = smoothstep(.90, .985, chart.x) * (1. - scalp); albedo = mix(albedo, neck_colour, nape);
    float oily = (.40 * nose + .28 * forehead + .16 * cheek + .18 * chin) * oil * (1. - .7 * powder.y);
    float rough = .56 - .20 * oily - mix(.10, .22, moist) * lip - .12 * lipstick.a * lip + .04 * g3 + .05 * g4 + .03 * g2 + .35 * scalp + .10 * clamp(thick, 0., 1.);
    rough = mix(rough, .30, deep);

    // Relief: pores, finer grain, furrows of the lips, wrinkles that age cuts.
    float pores = grain(p, 92., 20.), finer = grain(p, 178., 21.), porous = .55 + .7 * nose + .5 * cheek + .3 * forehead + .25 * chin;
    float calm = mix(1., .6, smoothstep(.5, 1.3, melanin));  // dark skin shows relief by its shine alone, and so too much of it
    float height = (-.55 * max(pores, -.1) + .30 * finer + .22 * grain(p, 40., 22.)) * porous * (1. - .75 * lip) * (1. - .8 * scalp) * (1. - .8 * lid) * (.8 + .5 * age) * (1. - .4 * powder.y) * calm;
    height += (.95 * up + .5 * fine) * lip * (1. - deep) + .9 * rim_lip + 1.6 * bumps + .35 * thick * dots;
    float wave = grain(p, vec3(5, 2, 5), 23.), broken = smoothstep(-.7, .5, grain(p, vec3(6, 16, 6), 24.));
    float brow_part = forehead * smoothstep(.55, .30, ax) * smoothstep(7.58, 7.66, y);
    float lines = furrow(y * 11. + .40 * wave + .25 * cos(ax * 7.), 7.) * brow_part;
    vec2 corner = vec2(ax - .435, y - 7.315); float away = length(corner), angle = atan(corner.y, corner.x);
    float beside = smoothstep(.02, .05, away) * smoothstep(.20, .07, away) * smoothstep(1.15, .6, abs(angle)) * step(0., corner.x);
    float crow = furrow(angle * 2.6 + .35 * wave + .3, 5.) * beside;
    float bag = exp(-pow((y - (7.155 + .35 * (ax - .27) * (ax - .27))) / .012, 2.)) * smoothstep(.12, .2, ax) * smoothstep(.44, .34, ax) * step(1., p.z);
    float bag2 = exp(-pow((y - (7.205 + .5 * (ax - .29) * (ax - .29) * 2.)) / .008, 2.)) * smoothstep(.14, .2, ax) * smoothstep(.42, .34, ax) * step(1., p.z);
    vec2 fold_at = vec2(.175, 6.90), fold_to = vec2(.285, 6.60); float t = clamp(dot(q.xy - fold_at, fold_to - fold_at) / dot(fold_to - fold_at, fold_to - fold_at), 0., 1.);
    float laugh = exp(-pow(length(q.xy - mix(fold_at, fold_to, t) - vec2(.02 * sin(3.14 * t), 0)) / .020, 2.)) * step(.9, p.z);
    float frown = furrow(ax * 9. + .5 + .2 * wave, 4.) * smoothstep(.13, .05, ax) * blob(q, vec3(0, 7.48, 1.45), vec3(.12, .11, .3));
    float lip_lines = furrow(p.x * 13. + .4 * wave, 5.) * blob(q, vec3(0, 6.78, 1.5), vec3(.2, .05, .3)) * (1. - lip);
    float crepe = (grain(p, vec3(12, 36, 12), 25.) + grain(p, vec3(30, 60, 30), 26.)) * (under + .7 * blob(q, vec3(.53, 7.25, 1.05), vec3(.12, .2, .3)) + .35 * cheek * step(.3, age));
    float neck = furrow(y * 5.5 + .5 * wave, 6.) * smoothstep(6.35, 6.1, y) * smoothstep(.2, .6, p.z);
    float old = smoothstep(.08, .9, age);
    height -= old * (5.5 * lines * broken + 2.2 * crow + 4. * bag + 3. * bag2 + 3.2 * laugh + 3. * frown + 2.0 * lip_lines * smoothstep(.5, .9, age) + 3. * neck) - 1.2 * old * crepe * calm * calm;
    height -= 1.0 * under_eye * bag2 + 2.4 * fold;
    // Shade lies in deep wrinkles, where relief alone is too fine to show.
    float cut = old * clamp(.9 * lines * broken + crow + .6 * bag + .6 * laugh + .7 * frown + .5 * neck + .35 * lip_lines * smoothstep(.5, .9, age), 0., 1.);
    albedo *= 1. - .22 * cut;
    rough += .45 * cut + .22 * old * beside + .14 * under;  // nor do their walls shine: on dark skin shine would be all that one sees of them

    colour_out = vec4(sqrt(clamp(albedo, 0., 1.)), clamp(rough, .22, .95));
    // What a smile and raised brows cut into everybody.
    height *= 1. - nape;
    form_out = vec4(height, -(3.2 * crow + 2.5 * bag2 + 3. * laugh) * (.45 + .55 * old), -7. * lines * broken * (.5 + .5 * old), 1.);
    lips_out = vec4(lip, face, scalp, 1.);
}
