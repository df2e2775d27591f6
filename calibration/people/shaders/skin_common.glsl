in vec3 P; in vec3 N; in vec2 UV; in vec3 B; in vec2 AO;
uniform sampler2D skin_colour, skin_relief, skin_folds;
uniform vec3 mean_skin, cloth, cloth_second; uniform float neckline, v_depth; uniform vec2 cloth_kind;

// Where the painted textures show this point; outside 0..1 there is none.
vec2 island() { return UV; }
bool on_head() { vec2 c = abs(UV - .5); return B.y > 5.2 && max(c.x, c.y) < .5; }
// How far below the neckline of the shirt, in decimetres on the average body.
float below_neckline() {
    float r = length(vec2(B.x, (B.z - .15) * .9));
    float v = v_depth * clamp(1. - abs(B.x) / .40, 0., 1.) * smoothstep(.3, .8, B.z);
    return (neckline - v - .10 * smoothstep(.2, 1.2, B.z) + .35 * smoothstep(.35, .9, r)) - B.y;
}
